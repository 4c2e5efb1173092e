//! Images and results: responses whose bytes are returned unchanged. May depend on the files of [`client`](super) and
//! [`portal`](crate::portal).

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use reqwest::Response;

use super::{
    PortalClient,
    body::{self, Retain},
    connections::Lease,
};
use crate::portal::{
    allowed::{ImageQuery, PortalUrl},
    error::{Failed, PortalError},
    key::ApiKey,
    verification_id::VerificationId,
    wire::parse_details,
};

/// A response with an image, whose body is not read yet.
pub struct ImageResponse {
    response: Response,
    /// Counts as a request in flight on its connection until the body is read.
    _lease: Lease,
}

impl ImageResponse {
    /// The content type that the portal names.
    #[must_use]
    pub fn content_type(&self) -> Option<String> {
        let header = self.response.headers().get(CONTENT_TYPE)?;
        Some(String::from_utf8_lossy(header.as_bytes()).into_owned())
    }

    /// Reads the body of at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// [`Failed::TooLarge`] as soon as it is longer; another [`PortalError::Failed`] if it is incomplete or late.
    pub async fn read(self, limit: usize) -> Result<Bytes, PortalError> {
        body::read(self.response, Retain::All { limit }).await.map(Bytes::from)
    }
}

impl PortalClient {
    /// Requests an image.
    ///
    /// # Errors
    ///
    /// [`PortalError`]; [`PortalError::NotFound`] if there is none, such as the back of a passport.
    pub async fn image(
        &self,
        portal: &PortalUrl,
        key: &ApiKey,
        id: &VerificationId,
        query: ImageQuery<'_>,
    ) -> Result<ImageResponse, PortalError> {
        let (response, lease) = self.get(&self.bodies, portal.image_url(id, query), key, false).await?;
        Ok(ImageResponse { response, _lease: lease })
    }

    /// Requests the details of a session and returns the body of at most `limit` bytes unchanged, if it is about this
    /// session.
    ///
    /// # Errors
    ///
    /// [`PortalError`]; [`Failed::TooLarge`] if it is longer.
    pub async fn results(
        &self,
        portal: &PortalUrl,
        key: &ApiKey,
        id: &VerificationId,
        limit: usize,
    ) -> Result<Bytes, PortalError> {
        let (response, _lease) = self.get(&self.bodies, portal.details_url(id), key, false).await?;
        let body = body::read(response, Retain::All { limit }).await?;
        match parse_details(&body) {
            Ok(details) if details.id.as_ref() == Some(id) => Ok(Bytes::from(body)),
            Ok(_) | Err(_) => Err(PortalError::Failed(Failed::Unusable)),
        }
    }
}

#[cfg(test)]
mod tests {
    use okid_sandbox::{Sandbox, Verdict};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::super::{ClientSettings, MAX_RESPONSE_BYTES};
    use super::*;
    use crate::portal::allowed::{AllowedPortals, ImageSource};

    const QUERY: ImageQuery<'_> =
        ImageQuery { source: ImageSource::Redacted, image_type: "original", attempt: None };
    const SIZE: usize = 1_500_000;

    #[tokio::test]
    async fn an_image_takes_no_more_memory_than_it_has_bytes() {
        let sandbox = Sandbox::builder().key("sk_canary").image_bytes(SIZE).start().await;
        let id = sandbox.seed(1).remove(0);
        sandbox.finish(&id, Verdict::Verified).unwrap();
        let url = AllowedPortals::new([sandbox.url()], true).unwrap().permit(&sandbox.url()).unwrap();
        let (key, id) = (ApiKey::parse(b"sk_canary").unwrap(), VerificationId::parse(&id).unwrap());
        let client = PortalClient::new(&ClientSettings::default()).unwrap();
        let image = client.image(&url, &key, &id, QUERY).await.unwrap().read(SIZE).await.unwrap();
        assert_eq!(image.len(), SIZE);
        assert_eq!(image.try_into_mut().unwrap().capacity(), SIZE);
        sandbox.stop().await;
    }

    #[tokio::test]
    async fn an_image_of_unknown_length_takes_no_more_memory_either() {
        const CHUNK: usize = 100_000;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let head = "HTTP/1.1 200 OK\r\ncontent-type: image/jpeg\r\ntransfer-encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            for _ in 0..SIZE / CHUNK {
                stream.write_all(format!("{CHUNK:x}\r\n").as_bytes()).await.unwrap();
                stream.write_all(&vec![7; CHUNK]).await.unwrap();
                stream.write_all(b"\r\n").await.unwrap();
            }
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        });
        let url = AllowedPortals::new([&url], true).unwrap().permit(&url).unwrap();
        let (key, id) = (ApiKey::parse(b"sk_canary").unwrap(), VerificationId::parse("ver_1").unwrap());
        let client = PortalClient::new(&ClientSettings::default()).unwrap();
        let image = client.image(&url, &key, &id, QUERY).await.unwrap().read(2 * SIZE).await.unwrap();
        assert_eq!(image.len(), SIZE);
        assert_eq!(image.try_into_mut().unwrap().capacity(), SIZE);
    }

    /// The stream window that a client announces when it connects with prior knowledge of HTTP/2.
    async fn announced(listener: &TcpListener) -> u32 {
        const PREFACE: usize = 24;
        const FRAME_HEAD: usize = 9;
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; PREFACE + FRAME_HEAD];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(head[PREFACE + 3], 4, "the first frame has the settings");
        let mut settings = vec![0; usize::from(u16::from_be_bytes([head[PREFACE + 1], head[PREFACE + 2]]))];
        stream.read_exact(&mut settings).await.unwrap();
        // RFC 9113, section 6.5.2: SETTINGS_INITIAL_WINDOW_SIZE.
        let window = settings.chunks_exact(6).find(|setting| setting[..2] == [0, 4]).unwrap();
        u32::from_be_bytes(window[2..].try_into().unwrap())
    }

    #[tokio::test]
    async fn the_largest_responses_need_few_round_trips_to_a_far_portal() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let url = AllowedPortals::new([&url], true).unwrap().permit(&url).unwrap();
        let (key, id) = (ApiKey::parse(b"sk_canary").unwrap(), VerificationId::parse("ver_1").unwrap());
        let client = || {
            let settings = ClientSettings { http2_prior_knowledge: true, ..ClientSettings::default() };
            PortalClient::new(&settings).unwrap()
        };
        let round_trips = |bytes: usize, window: u32| bytes.div_ceil(usize::try_from(window).unwrap());
        let (polls, images, results) = (client(), client(), client());
        let window = tokio::select! {
            window = announced(&listener) => window,
            _ = polls.poll(&url, &key, &id) => panic!("there is no response"),
        };
        assert_eq!(round_trips(MAX_RESPONSE_BYTES, window), 64);
        let window = tokio::select! {
            window = announced(&listener) => window,
            _ = images.image(&url, &key, &id, QUERY) => panic!("there is no response"),
        };
        assert_eq!(round_trips(25 * 1024 * 1024, window), 13);
        let window = tokio::select! {
            window = announced(&listener) => window,
            _ = results.results(&url, &key, &id, SIZE) => panic!("there is no response"),
        };
        assert_eq!(round_trips(MAX_RESPONSE_BYTES, window), 8);
    }
}
