//! The sandbox over real sockets: what the guide promises, and every fault that can be injected.

#![expect(clippy::unwrap_used, reason = "a failed setup fails the test")]

mod admin;
mod endpoints;
mod faults;
mod notifications;
mod page;
mod time;
mod transport;

use okid_sandbox::Sandbox;
use reqwest::{Client, Response};
use serde_json::Value;

pub(crate) const KEY: &str = "test-key-one";
pub(crate) const OTHER_KEY: &str = "test-key-two";

/// A sandbox with both keys, and a client that follows no redirect and retries nothing.
pub(crate) struct Scene {
    pub(crate) sandbox: Sandbox,
    pub(crate) client: Client,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::of(Sandbox::builder()).await
    }

    pub(crate) async fn of(builder: okid_sandbox::Builder) -> Self {
        let sandbox = builder.key(KEY).key(OTHER_KEY).start().await;
        Self { sandbox, client: client() }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.sandbox.url())
    }

    pub(crate) async fn create(&self) -> reqwest::Result<Response> {
        self.create_with(KEY).await
    }

    pub(crate) async fn create_with(&self, key: &str) -> reqwest::Result<Response> {
        self.client.post(self.url("/api/generate-verification")).header("X-SDK-Key", key).send().await
    }

    /// Creates a session as the guide shows, and returns its id.
    pub(crate) async fn created(&self) -> String {
        let response: Value = self.create().await.unwrap().json().await.unwrap();
        response["verificationId"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn read(&self, path: &str, key: &str) -> reqwest::Result<Response> {
        self.client.get(self.url(path)).header("X-SDK-Key", key).send().await
    }

    pub(crate) async fn details(&self, id: &str) -> reqwest::Result<Response> {
        self.read(&format!("/api/get-verification-details/{id}"), KEY).await
    }

    pub(crate) async fn session_status(&self, id: &str) -> Value {
        let details: Value = self.details(id).await.unwrap().json().await.unwrap();
        details["status"]["current"].clone()
    }
}

pub(crate) fn client() -> Client {
    let policy = reqwest::redirect::Policy::none();
    Client::builder().redirect(policy).retry(reqwest::retry::never()).no_proxy().build().unwrap()
}
