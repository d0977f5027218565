//! The gateway behind a listener of UDP: performs the steps a [`Session`] decides, in the task of the client's datagrams.
//!
//! Nobody can say that a datagram arrived. So an upstream counts as connected at its first answer, and as failed when it, or
//! the network, says that nobody is there; before an answer another address is tried then. Where neither comes, the breaker is
//! told after `connect_timeout` that it was not refused, however long the client goes on.

use super::stream_service::StreamService;
use gateway::router::StreamKind;
use gateway::stats::Dropped;
use gateway::stream::{Client, Session, SessionPlan, SessionStep};
use gateway::{Reason, Transferred, UpstreamFailure};
use net::stream::{
    DatagramConnectError, DatagramEnd, DatagramNews, DatagramPatience, DatagramSession, connect_datagrams,
};
use net::{Clock, Drain};
use std::pin::pin;
use std::time::Duration;
use tokio::net::UdpSocket;

/// A session and its datagrams; finishes it however it ends.
struct UnderWay {
    session: Option<Session>,
    datagrams: DatagramSession,
    clock: Clock,
}

impl StreamService {
    /// Serves the datagrams of one client from first to last.
    pub(super) async fn serve_datagrams(&self, datagrams: DatagramSession, drain: Drain) {
        let flow = datagrams.flow();
        let client = Client { kind: StreamKind::Udp, source: flow.source, destination: flow.destination, sni: None };
        let session = self.gateway.begin_session(client, self.clock.now());
        let mut under_way = UnderWay { session: Some(session), datagrams, clock: self.clock };
        let UnderWay { session: Some(session), datagrams, .. } = &mut under_way else { return };
        let mut step = session.enter(self.clock.now());
        while self.next_try(session, step).await {
            step = self.try_datagrams(session, datagrams, drain.clone()).await;
        }
    }

    /// One try; if the upstream answers, all of the session.
    async fn try_datagrams(
        &self,
        session: &mut Session,
        datagrams: &mut DatagramSession,
        mut drain: Drain,
    ) -> SessionStep {
        let Some(plan) = session.plan() else { return SessionStep::Close };
        let upstream = match self.connect_datagrams(&plan).await {
            Ok(upstream) => upstream,
            Err(DatagramConnectError::NoSocket(error)) => {
                // Anybody can bring this about, so it is counted, and no line is written by default.
                tracing::debug!(%error, "no socket for a session of UDP");
                self.gateway.stats().datagram_drops().count(Dropped::Socket);
                session.broke(Reason::Overload);
                return SessionStep::Close;
            }
            Err(error) => {
                tracing::debug!(?session, %error, "a try failed");
                let failure = match error {
                    DatagramConnectError::Resolve(_) => UpstreamFailure::Resolve,
                    DatagramConnectError::Timeout => UpstreamFailure::ConnectTimeout,
                    _ => UpstreamFailure::Refused,
                };
                return session.failed(failure, self.clock.now());
            }
        };
        let patience = DatagramPatience {
            idle: Duration::from_millis(session.idle_timeout_ms().into()),
            refusal: Duration::from_millis(plan.upstream.backend.connect_timeout_ms.into()),
        };
        let draining = pin!(drain.begun());
        let tell = |news| match news {
            DatagramNews::Answered => session.connected(self.clock.now()),
            DatagramNews::NotRefused => session.not_refused(self.clock.now()),
        };
        let end = datagrams.carry(&upstream, patience, draining, tell).await;
        match end {
            DatagramEnd::Silent => session.fell_silent(self.clock.now()),
            DatagramEnd::Drained => session.broke(Reason::Shutdown),
            DatagramEnd::Refused(error) => {
                tracing::debug!(?session, %error, "the upstream refuses datagrams");
                if !datagrams.is_answered() {
                    return session.failed(UpstreamFailure::Refused, self.clock.now());
                }
                session.refused(self.clock.now());
            }
        }
        SessionStep::Close
    }

    async fn connect_datagrams(&self, plan: &SessionPlan) -> Result<UdpSocket, DatagramConnectError> {
        let backend = &plan.upstream.backend;
        let (host, port) = match &plan.member {
            Some(member) => (&*member.address.key().host, member.address.key().port),
            None => (backend.host.as_str(), backend.port),
        };
        let timeout = Duration::from_millis(backend.connect_timeout_ms.into());
        connect_datagrams(&self.resolver, host, port, timeout).await
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(mut session) = self.session.take() {
            let carried = self.datagrams.carried();
            session.count_datagrams(carried.datagrams);
            let transferred = Transferred { bytes_in: carried.bytes.up_bytes, bytes_out: carried.bytes.down_bytes };
            session.finish(transferred, self.clock.now());
        }
    }
}
