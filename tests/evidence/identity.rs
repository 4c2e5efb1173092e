//! Named stores without credentials use those that the cloud issues to the pod.

use control_plane::Folder as TempFolder;
use http::Method;
use okid_operator::store::{NoResponse, Store, StoreError};

use crate::harness::{BUCKET, Fault, POD_TOKEN, Proxy, ROLE, S3, SESSION, TokenServer, put, stores_with};

/// A pod: its environment, and the file with its token.
struct Pod {
    folder: TempFolder,
    token: String,
}

impl Pod {
    fn new(token: &str) -> Self {
        let folder = TempFolder::create("okid-pod-").unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, token).unwrap();
        Self { token: file.display().to_string(), folder }
    }

    /// The store of this name, with these variables in the environment.
    fn store(
        &self,
        text: &str,
        variables: &[(&str, &str)],
        token_server: &TokenServer,
    ) -> std::sync::Arc<Store> {
        assert!(self.folder.path().exists());
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        stores_with(text, &variables, &token_server.authority).find("evidence", "team-a").unwrap()
    }
}

fn s3_store(s3: &S3) -> String {
    format!(
        "stores: [{{name: evidence, url: 's3://{BUCKET}/kyc', namespaces: ['*'], \
         options: {{aws_region: eu-central-1, aws_endpoint: '{}'}}}}]",
        s3.proxy.url()
    )
}

/// Stores an object, and checks that the request used the session.
async fn store_as_session(s3: &S3, store: &Store) {
    assert!(!put(store, b"abc").await.unwrap().already_existed);
    let passed = s3.proxy.passed();
    let stored = passed.iter().find(|passed| passed.method == Method::PUT).unwrap();
    assert_eq!(stored.asked["x-amz-security-token"], SESSION);
}

#[tokio::test]
async fn a_store_without_credentials_assumes_the_role_of_the_pods_service_account() {
    let (s3, token_server) =
        (S3::start("session", "horse").await, TokenServer::sts("session", "horse").await);
    let pod = Pod::new(POD_TOKEN);
    let variables = [
        ("AWS_ROLE_ARN", ROLE),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &pod.token),
        ("AWS_ENDPOINT_URL_STS", &token_server.url),
    ];
    store_as_session(&s3, &pod.store(&s3_store(&s3), &variables, &token_server)).await;

    let other = Pod::new("token-of-another-pod");
    let variables = [variables[0], ("AWS_WEB_IDENTITY_TOKEN_FILE", &other.token), variables[2]];
    let store = other.store(&s3_store(&s3), &variables, &token_server);
    assert_eq!(put(&store, b"abc").await, Err(StoreError::CredentialsRefused));
}

#[tokio::test]
async fn a_store_without_credentials_uses_eks_pod_identity() {
    let (s3, token_server) =
        (S3::start("session", "horse").await, TokenServer::pod_identity("session", "horse").await);
    let pod = Pod::new(POD_TOKEN);
    let variables = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", token_server.url.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &pod.token),
    ];
    store_as_session(&s3, &pod.store(&s3_store(&s3), &variables, &token_server)).await;
}

#[tokio::test]
async fn an_endless_token_response_is_not_read_to_its_end() {
    let (s3, token_server) =
        (S3::start("session", "horse").await, TokenServer::sts("session", "horse").await);
    let agent = Proxy::start("127.0.0.1:9".parse().unwrap());
    agent.always(Fault::AnswerEndlessly(200));
    let (pod, url) = (Pod::new(POD_TOKEN), agent.url());
    let variables = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &pod.token),
    ];
    let store = pod.store(&s3_store(&s3), &variables, &token_server);
    assert_eq!(put(&store, b"abc").await, Err(NoResponse::TooLarge.into()));
    assert!(agent.endless() < 16 << 20, "its bound, and what the connection's buffers hold");
    assert_eq!(s3.proxy.arrived(), 0);
}

#[tokio::test]
async fn keys_of_the_file_take_precedence_over_the_pods_identity() {
    let (s3, token_server) = (S3::start("file", "horse").await, TokenServer::sts("session", "horse").await);
    let pod = Pod::new(POD_TOKEN);
    let variables = [
        ("AWS_ROLE_ARN", ROLE),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", pod.token.as_str()),
        ("AWS_ENDPOINT_URL_STS", &token_server.url),
        ("AWS_SESSION_TOKEN", SESSION),
    ];
    let keys = "options: {aws_access_key_id: file, aws_secret_access_key: horse, ";
    let text = s3_store(&s3).replace("options: {", keys);
    assert!(!put(&pod.store(&text, &variables, &token_server), b"abc").await.unwrap().already_existed);
    assert!(s3.proxy.passed().iter().all(|passed| !passed.asked.contains_key("x-amz-security-token")));
}

#[tokio::test]
async fn a_store_without_credentials_gets_a_token_of_microsoft_entra() {
    let token_server = TokenServer::entra().await;
    let pod = Pod::new(POD_TOKEN);
    let text = format!(
        "stores: [{{name: evidence, url: 'az://evidence/kyc', namespaces: ['*'], \
         options: {{azure_storage_account_name: account, azure_storage_endpoint: '{}/account'}}}}]",
        token_server.url
    );
    let variables = [
        ("AZURE_CLIENT_ID", "client"),
        ("AZURE_TENANT_ID", "tenant"),
        ("AZURE_FEDERATED_TOKEN_FILE", &pod.token),
        ("AZURE_AUTHORITY_HOST", &token_server.url),
    ];
    let store = pod.store(&text, &variables, &token_server);
    assert!(!put(&store, b"abc").await.unwrap().already_existed);

    let variables = [("AZURE_CLIENT_ID", "other"), variables[1], variables[2], variables[3]];
    let store = pod.store(&text, &variables, &token_server);
    assert_eq!(put(&store, b"abc").await, Err(StoreError::CredentialsRefused));
}
