//! Requests that the program itself makes, through the same pool as proxied ones.

use bytes::{Bytes, BytesMut};
use http::header::HOST;
use http::{HeaderValue, Request, Response};
use http_body::Body as _;
use http1::FieldLines;
use net::http::{
    Body, Timeouts, TlsSettings, TlsTrust, UpstreamError, UpstreamErrorKind, UpstreamPool, UpstreamTarget, UpstreamTls,
};
use plugin::{BoxFuture, SendError};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Sends requests. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Sender {
    pool: Arc<UpstreamPool>,
    /// TLS with the system's trust anchors, once it was needed and they could be read.
    tls: Arc<OnceLock<UpstreamTls>>,
}

impl Sender {
    pub(crate) fn new(pool: Arc<UpstreamPool>) -> Self {
        Self { pool, tls: Arc::default() }
    }

    /// Sends a request with an absolute URI and collects the answer.
    pub(crate) fn send(
        &self,
        request: Request<Bytes>,
        timeout: Duration,
        body_bytes_max: usize,
    ) -> BoxFuture<Result<Response<Bytes>, SendError>> {
        let sender = self.clone();
        Box::pin(async move {
            match tokio::time::timeout(timeout, sender.exchange(request, timeout, body_bytes_max)).await {
                Ok(answer) => answer,
                Err(_) => Err(SendError::Timeout),
            }
        })
    }

    async fn exchange(
        &self,
        request: Request<Bytes>,
        timeout: Duration,
        body_bytes_max: usize,
    ) -> Result<Response<Bytes>, SendError> {
        let (mut head, body) = request.into_parts();
        let target = self.target(&head.uri)?;
        if let Some(authority) = head.uri.authority()
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            head.headers.insert(HOST, host);
        }
        let path = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
        head.uri = path.parse().map_err(|_| SendError::Connect("the path of the URL is malformed".to_owned()))?;
        let ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let timeouts = Timeouts { connect_ms: ms, write_ms: ms, read_ms: ms };
        let mut body = Body::from(body);
        let response = self
            .pool
            .exchange(&target, &mut head, &FieldLines::default(), &mut body, timeouts)
            .await
            .map_err(send_error)?
            .into_response();
        let (head, body) = response.into_parts();
        Ok(Response::from_parts(head, collect(body, body_bytes_max).await?))
    }

    fn target(&self, uri: &http::Uri) -> Result<UpstreamTarget, SendError> {
        let host = uri.host().ok_or_else(|| SendError::Connect("the URL has no host".to_owned()))?;
        let secure = uri.scheme_str() == Some("https");
        let tls = if secure { Some(self.tls()?) } else { None };
        Ok(UpstreamTarget {
            host: host.trim_start_matches('[').trim_end_matches(']').into(),
            port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            tls,
            server_name: None,
            http2: false,
            connections: None,
        })
    }

    fn tls(&self) -> Result<UpstreamTls, SendError> {
        if let Some(tls) = self.tls.get() {
            return Ok(tls.clone());
        }
        let settings = TlsSettings { trust: TlsTrust::System, ..TlsSettings::default() };
        let tls = self.pool.tls(settings).map_err(|error| SendError::Connect(error.to_string()))?;
        Ok(self.tls.get_or_init(|| tls).clone())
    }
}

/// The body, cut off at `bytes_max`. An answer that breaks off is no answer.
async fn collect(mut body: Body, bytes_max: usize) -> Result<Bytes, SendError> {
    let mut collected = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| SendError::Broken(error.to_string()))?;
        if let Ok(data) = frame.into_data() {
            let room = bytes_max - collected.len();
            collected.extend_from_slice(&data[..data.len().min(room)]);
            if collected.len() == bytes_max {
                break;
            }
        }
    }
    Ok(collected.freeze())
}

fn send_error(error: UpstreamError) -> SendError {
    match error.kind {
        UpstreamErrorKind::ConnectTimeout | UpstreamErrorKind::WriteTimeout | UpstreamErrorKind::ReadTimeout => {
            SendError::Timeout
        }
        UpstreamErrorKind::Dns | UpstreamErrorKind::Refused | UpstreamErrorKind::Tls => {
            SendError::Connect(error.to_string())
        }
        UpstreamErrorKind::Reset
        | UpstreamErrorKind::InvalidResponse
        | UpstreamErrorKind::RequestBody
        | UpstreamErrorKind::BulkheadFull
        | UpstreamErrorKind::QueueTimeout => SendError::Broken(error.to_string()),
    }
}
