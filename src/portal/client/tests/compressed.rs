//! Responses that a proxy compressed, although that was not requested.

use std::io::Write as _;

use flate2::{
    Compression,
    write::{DeflateEncoder, GzEncoder, ZlibEncoder},
};

use super::*;
use crate::portal::error::ContentCoding;

/// A portal that responds with these bytes.
async fn portal_sending(status: &str, coding: &str, body: &[u8]) -> Portal {
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\ncontent-encoding: {coding}\r\n\r\n", body.len());
    portal_responding([head.as_bytes(), body].concat()).await
}

async fn portal_responding(response: Vec<u8>) -> Portal {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let response = response.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await?);
                }
                stream.write_all(&response).await?;
                stream.shutdown().await
            });
        }
    });
    Portal { address, requests: Arc::default() }
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn zlib(body: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn raw(body: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn gzip_and_deflate_are_decoded_in_all_their_variants() {
    type Encode = fn(&[u8]) -> Vec<u8>;
    let encodings: [(&str, Encode); 6] = [
        ("gzip", gzip),
        ("X-GZIP", gzip),
        ("identity, gzip", gzip),
        ("deflate", zlib),
        ("deflate", raw),
        ("identity", <[u8]>::to_vec),
    ];
    for (coding, encode) in encodings {
        let portal = portal_sending("200 OK", coding, &encode(CREATED.as_bytes())).await;
        assert_eq!(
            client().create(&portal.url(), &key()).await.map(|created| created.id),
            Ok(id()),
            "{coding}"
        );
        let portal = portal_sending("200 OK", coding, &encode(with_results(600_000).as_bytes())).await;
        let details = client().poll(&portal.url(), &key(), &id()).await.unwrap();
        assert_eq!(details.current.as_deref(), Some("verified"), "{coding}");
        let portal = portal_sending("401 Unauthorized", coding, &encode(br#"{"error":"no"}"#)).await;
        assert_eq!(client().create(&portal.url(), &key()).await, Err(PortalError::KeyRejected), "{coding}");
    }
}

#[tokio::test]
async fn any_other_coding_is_an_error_that_names_it() {
    for (coding, named) in [
        ("br", ContentCoding::Brotli),
        ("zstd", ContentCoding::Zstd),
        ("compress", ContentCoding::Compress),
        ("gzip, gzip", ContentCoding::Other),
        ("secret", ContentCoding::Other),
    ] {
        let portal = portal_sending("200 OK", coding, CREATED.as_bytes()).await;
        let error = client().create(&portal.url(), &key()).await.unwrap_err();
        assert_eq!(error, PortalError::Failed(Failed::Encoded(named)), "{coding}");
        let portal = portal_sending("401 Unauthorized", coding, br#"{"error":"no"}"#).await;
        let error = client().create(&portal.url(), &key()).await.unwrap_err();
        assert_eq!(error, PortalError::Unclear { status: 401 }, "{coding}");
    }
}

#[tokio::test]
async fn a_compressed_body_has_the_same_bounds_and_must_be_complete() {
    let bomb = gzip(&vec![b' '; 64 * 1024 * 1024]);
    assert!(bomb.len() < 1024 * 1024);
    let portal = portal_sending("200 OK", "gzip", &bomb).await;
    assert_eq!(client().create(&portal.url(), &key()).await, Err(PortalError::Failed(Failed::TooLarge)));
    let bomb = gzip(with_results(MAX_RESPONSE_BYTES).as_bytes());
    let portal = portal_sending("200 OK", "gzip", &bomb).await;
    let details = client().poll(&portal.url(), &key(), &id()).await;
    assert_eq!(details, Err(PortalError::Failed(Failed::TooLarge)));

    let whole = gzip(CREATED.as_bytes());
    let broken = [&whole[..whole.len() - 1], &whole[..12], b"{}", b""];
    for body in broken {
        let portal = portal_sending("200 OK", "gzip", body).await;
        let error = client().create(&portal.url(), &key()).await;
        assert_eq!(error, Err(PortalError::Failed(Failed::Unusable)), "{} bytes", body.len());
    }
}

#[tokio::test]
async fn a_body_that_decodes_to_nothing_is_bounded_too() {
    // RFC 1951 §3.2.4: an empty stored block, followed by another one.
    let nothing = [0, 0, 0, 0xff, 0xff];
    let body = [nothing.repeat(MAX_RESPONSE_BYTES / nothing.len() + 1_000), raw(CREATED.as_bytes())].concat();
    let head = b"HTTP/1.1 201 Created\r\ncontent-encoding: deflate\r\n\r\n";
    let portal = portal_responding([&head[..], &body].concat()).await;
    assert_eq!(client().create(&portal.url(), &key()).await, Err(PortalError::Failed(Failed::TooLarge)));
}
