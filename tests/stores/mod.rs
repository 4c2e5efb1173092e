//! Stores on the loopback interface that more than one test program uses.

pub(crate) mod proxy;
mod s3;
mod serve;

pub(crate) use proxy::{Fault, Proxy};
pub(crate) use s3::{BUCKET, S3};
pub(crate) use serve::serve;
