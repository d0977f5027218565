//! The smallest proxy: every request goes to one upstream. It exists to measure what the HTTP glue costs, beside
//! nginx doing the same.
//!
//! `proxy LISTEN UPSTREAM_HOST UPSTREAM_PORT [WORKERS]`

use http::{Request, Response, StatusCode};
use http1::FieldLines;
use sluicegate_net::http::{
    Answer, Body, HttpService, PoolSettings, Refusal, ServerSettings, Timeouts, UpstreamPool, UpstreamTarget,
    serve_connection,
};
use sluicegate_net::resolve::{Resolver, ResolverSettings};
use sluicegate_net::{Listener, Peer, Place, Shutdown};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

struct Proxy {
    pool: UpstreamPool,
    target: UpstreamTarget,
}

impl HttpService for Proxy {
    async fn call(&self, request: Request<Body>, _: &Peer) -> Box<Answer> {
        let (mut head, mut body) = request.into_parts();
        match self.pool.exchange(&self.target, &mut head, &FieldLines::default(), &mut body, Timeouts::default()).await
        {
            Ok(answer) => answer,
            Err(error) => {
                let mut response = Response::new(Body::from(bytes::Bytes::from(error.to_string())));
                *response.status_mut() = StatusCode::BAD_GATEWAY;
                response.into()
            }
        }
    }

    fn refuse(&self, refusal: &Refusal, _: &Peer) -> Response<Body> {
        Response::new(Body::from(bytes::Bytes::from(refusal.to_string())))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let usage = "proxy LISTEN UPSTREAM_HOST UPSTREAM_PORT [WORKERS]";
    let address = args.next().ok_or(usage)?.parse()?;
    let target = UpstreamTarget {
        host: args.next().ok_or(usage)?.into(),
        port: args.next().ok_or(usage)?.parse()?,
        tls: None,
        server_name: None,
        http2: false,
        connections: None,
    };
    let workers = args.next().map_or(Ok(2), |workers| workers.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    runtime.block_on(async {
        let listener = Listener::bind(address, None)?;
        let service = Arc::new(Proxy {
            pool: UpstreamPool::new(PoolSettings::default(), Resolver::new(&ResolverSettings::default())),
            target,
        });
        let (_shutdown, drain) = Shutdown::new();
        let seen = drain.clone();
        let serve =
            move |io, peer| serve_connection(io, peer, Arc::clone(&service), ServerSettings::default(), seen.clone());
        listener.run(10_000, Place::Here, drain, Duration::from_secs(5), serve).await;
        Ok(())
    })
}
