//! The resolver against a name server over real sockets: TTLs, failures, canonical names, services, lies.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use sluicegate_net::resolve::{RecordKind, ResolveError, Resolver, ResolverSettings};
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use support::fake_dns::{A, AAAA, FakeDns, Reaction, SRV, a, aaaa, cname, srv};
use tokio::net::UdpSocket;

fn settings(server: &FakeDns) -> ResolverSettings {
    ResolverSettings {
        servers: vec![server.address],
        hosts_file: PathBuf::from("/nonexistent"),
        resolv_conf: PathBuf::from("/nonexistent"),
        // Long enough for a busy machine; what waits for it says so.
        timeout: Some(Duration::from_secs(10)),
        ..ResolverSettings::default()
    }
}

/// Time passes, without waiting and without hurrying deadlines of sockets.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

async fn addresses(resolver: &Resolver, host: &str) -> Result<Vec<String>, ResolveError> {
    let addresses = resolver.addresses(host, 80).await?;
    let mut texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    texts.sort_unstable();
    Ok(texts)
}

/// Asks until the answer is this one: a lookup in the background has its own time.
async fn becomes(resolver: &Resolver, host: &str, expected: &str) {
    let until = async {
        while addresses(resolver, host).await.as_deref() != Ok(&[expected.to_owned()]) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), until).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_says_a_word_of_services_is_asked_for_addresses_in_time() {
    let server = FakeDns::start().await;
    server.tell("web.example", SRV, Reaction::Silence);
    server.records("web.example", A, &[a("web.example", 60, [10, 0, 0, 1])]);
    // Five attempts of this would be all the time there is, and more.
    let resolver = Resolver::new(&settings(&server));
    assert_eq!(addresses(&resolver, "web.example").await.unwrap(), ["10.0.0.1:80"]);
}

#[tokio::test]
async fn an_answer_is_used_for_its_ttl_and_then_asked_for_again() {
    let server = FakeDns::start().await;
    server.records("web.example", A, &[a("web.example", 60, [10, 0, 0, 1])]);
    let resolver = Resolver::new(&settings(&server));
    assert_eq!(addresses(&resolver, "Web.example").await.unwrap(), ["10.0.0.1:80"]);
    assert_eq!(server.asked(), [("web.example".to_owned(), SRV), ("web.example".to_owned(), A)]);
    server.records("web.example", A, &[a("web.example", 60, [10, 0, 0, 2])]);
    pass(Duration::from_secs(50)).await;
    assert_eq!(addresses(&resolver, "Web.example").await.unwrap(), ["10.0.0.1:80"]);
    assert_eq!(server.asked(), []);
    pass(Duration::from_secs(11)).await;
    assert_eq!(addresses(&resolver, "Web.example").await.unwrap(), ["10.0.0.2:80"]);
    assert_eq!(server.asked(), [("web.example".to_owned(), A)], "what answered last time is asked first");
}

#[tokio::test]
async fn ipv4_that_could_not_be_asked_for_once_is_asked_for_again() {
    let server = FakeDns::start().await;
    server.tell("web.example", A, Reaction::Code(2));
    server.records("web.example", AAAA, &[aaaa("web.example", 60, Ipv6Addr::LOCALHOST)]);
    let resolver = Resolver::new(&settings(&server));
    assert_eq!(addresses(&resolver, "web.example").await.unwrap(), ["[::1]:80"]);
    server.records("web.example", A, &[a("web.example", 60, [10, 0, 0, 1])]);
    pass(Duration::from_secs(61)).await;
    assert_eq!(addresses(&resolver, "web.example").await.unwrap(), ["10.0.0.1:80"]);
}

#[tokio::test]
async fn a_name_in_use_is_asked_for_before_its_answer_ends() {
    let server = FakeDns::start().await;
    server.records("web.example", A, &[a("web.example", 100, [10, 0, 0, 1])]);
    let resolver = Resolver::new(&settings(&server));
    addresses(&resolver, "web.example").await.unwrap();
    server.records("web.example", A, &[a("web.example", 100, [10, 0, 0, 2])]);
    pass(Duration::from_secs(95)).await;
    assert_eq!(addresses(&resolver, "web.example").await.unwrap(), ["10.0.0.1:80"], "the old one is still good");
    becomes(&resolver, "web.example", "10.0.0.2:80").await;
}

#[tokio::test]
async fn one_question_is_asked_for_many_who_wait() {
    let server = FakeDns::start().await;
    server.records("web.example", A, &[a("web.example", 60, [10, 0, 0, 1])]);
    let resolver = Resolver::new(&settings(&server));
    let askers: Vec<_> = (0..50)
        .map(|_| {
            let resolver = Arc::clone(&resolver);
            tokio::spawn(async move { resolver.addresses("web.example", 80).await.unwrap() })
        })
        .collect();
    for asker in askers {
        asker.await.unwrap();
    }
    assert_eq!(server.asked().len(), 2, "SRV and A");
}

#[tokio::test]
async fn who_asked_may_leave_and_the_answer_is_kept() {
    let server = FakeDns::start().await;
    server.records("web.example", A, &[a("web.example", 60, [10, 0, 0, 1])]);
    let resolver = Resolver::new(&settings(&server));
    {
        let mut asking = Box::pin(resolver.addresses("web.example", 80));
        let first = std::future::poll_fn(|cx| std::task::Poll::Ready(asking.as_mut().poll(cx).is_pending())).await;
        assert!(first);
    }
    assert_eq!(addresses(&resolver, "web.example").await.unwrap(), ["10.0.0.1:80"]);
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn an_old_answer_serves_while_the_server_fails() {
    let server = FakeDns::start().await;
    server.records("web.example", A, &[a("web.example", 60, [10, 0, 0, 1])]);
    let resolver = Resolver::new(&settings(&server));
    addresses(&resolver, "web.example").await.unwrap();
    server.tell("web.example", A, Reaction::Code(2));
    server.tell("web.example", SRV, Reaction::Code(2));
    pass(Duration::from_secs(61)).await;
    assert_eq!(addresses(&resolver, "web.example").await.unwrap(), ["10.0.0.1:80"]);
    assert!(!server.asked().is_empty());
    pass(Duration::from_secs(3_600)).await;
    assert_eq!(addresses(&resolver, "web.example").await, Err(ResolveError::ServerFailure(2)), "not for ever");
    server.records("web.example", A, &[a("web.example", 60, [10, 0, 0, 3])]);
    pass(Duration::from_secs(2)).await;
    assert_eq!(addresses(&resolver, "web.example").await.unwrap(), ["10.0.0.3:80"]);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_not_asked_for_again_at_once() {
    let server = FakeDns::start().await;
    let resolver = Resolver::new(&settings(&server));
    assert_eq!(addresses(&resolver, "web.example").await, Err(ResolveError::NotFound));
    assert_eq!(server.asked().len(), 3, "SRV, A, AAAA");
    pass(Duration::from_secs(29)).await;
    assert_eq!(addresses(&resolver, "web.example").await, Err(ResolveError::NotFound));
    assert_eq!(server.asked(), []);
    server.records("web.example", A, &[a("web.example", 60, [10, 0, 0, 1])]);
    pass(Duration::from_secs(2)).await;
    assert_eq!(addresses(&resolver, "web.example").await.unwrap(), ["10.0.0.1:80"]);
}

#[tokio::test]
async fn what_does_not_fit_a_datagram_comes_by_tcp() {
    let server = FakeDns::start().await;
    let many: Vec<_> = (0..200).map(|n| a("web.example", 60, [10, 0, 0, n])).collect();
    server.tell("web.example", A, Reaction::Truncated(many));
    let resolver = Resolver::new(&settings(&server));
    assert_eq!(addresses(&resolver, "web.example").await.unwrap().len(), 200);
}

#[tokio::test]
async fn canonical_names_are_followed_in_the_answer_and_beyond_it() {
    let server = FakeDns::start().await;
    let chain = [cname("web.example", 300, "b.example"), cname("b.example", 5, "c.example")];
    server.records("web.example", A, &[&chain[..], &[a("c.example", 60, [10, 0, 0, 1])]].concat());
    server.records("far.example", A, &[cname("far.example", 60, "web.example")]);
    let resolver = Resolver::new(&settings(&server));
    assert_eq!(addresses(&resolver, "web.example").await.unwrap(), ["10.0.0.1:80"]);
    assert_eq!(addresses(&resolver, "far.example").await.unwrap(), ["10.0.0.1:80"]);
    let answer = resolver.answer("web.example").await.unwrap();
    assert!(answer.until <= tokio::time::Instant::now() + Duration::from_secs(5), "the shortest TTL counts");
}

#[tokio::test]
async fn canonical_names_that_lead_nowhere_end() {
    let server = FakeDns::start().await;
    server.records("a.example", A, &[cname("a.example", 60, "b.example")]);
    server.records("b.example", A, &[cname("b.example", 60, "a.example")]);
    server.records("c.example", A, &[cname("c.example", 60, "c.example")]);
    let only_a = ResolverSettings { order: vec![RecordKind::A], ..settings(&server) };
    let resolver = Resolver::new(&only_a);
    assert_eq!(addresses(&resolver, "a.example").await, Err(ResolveError::CnameLoop));
    assert_eq!(addresses(&resolver, "c.example").await, Err(ResolveError::CnameLoop));
}

#[tokio::test]
async fn what_is_not_the_answer_is_ignored() {
    let server = FakeDns::start().await;
    server.tell("web.example", A, Reaction::Spoofed(vec![a("web.example", 60, [10, 0, 0, 1])]));
    server.tell("web.example", SRV, Reaction::Spoofed(Vec::new()));
    let resolver = Resolver::new(&settings(&server));
    assert_eq!(addresses(&resolver, "web.example").await.unwrap(), ["10.0.0.1:80"]);
}

#[tokio::test]
async fn a_server_that_says_nothing_is_a_timeout_and_the_next_one_is_asked() {
    let (silent, server) = (FakeDns::start().await, FakeDns::start().await);
    silent.tell("web.example", A, Reaction::Silence);
    silent.tell("web.example", SRV, Reaction::Silence);
    let quick = ResolverSettings { timeout: Some(Duration::from_millis(20)), ..settings(&silent) };
    let resolver = Resolver::new(&quick);
    assert_eq!(addresses(&resolver, "web.example").await, Err(ResolveError::Timeout));
    assert_eq!(silent.asked().len(), 10, "five tries for each of SRV and A; not for AAAA");

    server.records("web.example", A, &[a("web.example", 60, [10, 0, 0, 1])]);
    let both = ResolverSettings { servers: vec![silent.address, server.address], ..quick };
    let both = ResolverSettings { timeout: Some(Duration::from_millis(500)), ..both };
    let resolver = Resolver::new(&both);
    assert_eq!(addresses(&resolver, "web.example").await.unwrap(), ["10.0.0.1:80"]);
    assert_eq!(silent.asked().len(), 1, "then the one that answered is asked first");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_apart_from_one_that_is_silent() {
    let nobody = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let server = FakeDns::start().await;
    let resolver = Resolver::new(&ResolverSettings { servers: vec![nobody], ..settings(&server) });
    let refused = ResolveError::Unreachable(std::io::ErrorKind::ConnectionRefused);
    assert_eq!(addresses(&resolver, "web.example").await, Err(refused));
}

#[tokio::test]
async fn services_give_ports_and_weights_and_the_first_priority_counts() {
    let server = FakeDns::start().await;
    let records = [
        srv("web.example", 60, [1, 7, 8001], "one.example"),
        srv("web.example", 60, [1, 0, 8002], "two.example"),
        srv("web.example", 60, [2, 9, 8003], "three.example"),
        srv("web.example", 60, [1, 9, 8004], "gone.example"),
        a("one.example", 30, [10, 0, 0, 1]),
    ];
    server.records("web.example", SRV, &records);
    server.records("two.example", A, &[a("two.example", 60, [10, 0, 0, 2])]);
    let resolver = Resolver::new(&settings(&server));
    let answer = resolver.answer("web.example").await.unwrap();
    let found: Vec<_> = answer.endpoints.iter().map(|e| (e.ip.to_string(), e.port, e.weight)).collect();
    let expected = [("10.0.0.1".to_owned(), Some(8001), Some(7)), ("10.0.0.2".to_owned(), Some(8002), Some(1))];
    assert_eq!(found, expected);
    let first: Vec<SocketAddr> = resolver.addresses("web.example", 80).await.unwrap();
    assert!(first.iter().all(|address| address.port() > 8_000), "the record's port beats the service's");
    let asked = server.asked();
    assert!(!asked.contains(&("one.example".to_owned(), A)), "its address came with the answer: {asked:?}");
}

#[tokio::test]
async fn a_name_with_ipv6_addresses_only_is_found() {
    let server = FakeDns::start().await;
    server.records("web.example", AAAA, &[aaaa("web.example", 60, Ipv6Addr::LOCALHOST)]);
    let resolver = Resolver::new(&settings(&server));
    assert_eq!(addresses(&resolver, "web.example").await.unwrap(), ["[::1]:80"]);
    let as_kong = ResolverSettings { order: vec![RecordKind::Last, RecordKind::A], ..settings(&server) };
    let resolver = Resolver::new(&as_kong);
    assert_eq!(addresses(&resolver, "web.example").await, Err(ResolveError::NotFound));
}

#[tokio::test]
async fn the_system_s_files_are_honoured() {
    let server = FakeDns::start().await;
    server.records("api.svc.local", A, &[a("api.svc.local", 60, [10, 0, 0, 1])]);
    server.records("api", A, &[a("api", 60, [10, 0, 0, 9])]);
    let folder = std::env::temp_dir().join(format!("sluicegate-resolve-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (hosts, conf) = (folder.join("hosts"), folder.join("resolv.conf"));
    std::fs::write(&hosts, "10.1.1.1 static\n::1 static\n").unwrap();
    std::fs::write(&conf, "search other.local svc.local\noptions ndots:2\n").unwrap();
    let settings = ResolverSettings { hosts_file: hosts.clone(), resolv_conf: conf, ..settings(&server) };
    let resolver = Resolver::new(&settings);
    assert_eq!(addresses(&resolver, "static").await.unwrap(), ["10.1.1.1:80"]);
    assert_eq!(addresses(&resolver, "localhost").await.unwrap(), ["127.0.0.1:80"]);
    assert_eq!(server.asked(), []);
    assert_eq!(addresses(&resolver, "api").await.unwrap(), ["10.0.0.1:80"], "few dots: searched for first");
    assert_eq!(addresses(&resolver, "api.").await.unwrap(), ["10.0.0.9:80"], "a final dot: not searched for");
    std::fs::write(&hosts, "10.1.1.2 static\n").unwrap();
    resolver.reload(&settings);
    assert_eq!(addresses(&resolver, "static").await.unwrap(), ["10.1.1.2:80"]);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn addresses_take_turns() {
    let server = FakeDns::start().await;
    let both = [a("web.example", 60, [10, 0, 0, 1]), a("web.example", 60, [10, 0, 0, 2])];
    server.records("web.example", A, &both);
    let resolver = Resolver::new(&settings(&server));
    let mut firsts = Vec::new();
    for _ in 0..4 {
        firsts.push(resolver.addresses("web.example", 80).await.unwrap()[0]);
    }
    assert_eq!((firsts[0], firsts[1]), (firsts[2], firsts[3]));
    assert_ne!(firsts[0], firsts[1]);
}

#[tokio::test]
async fn what_cannot_be_a_name_is_not_asked_for() {
    let server = FakeDns::start().await;
    let resolver = Resolver::new(&settings(&server));
    let long = "a".repeat(64);
    for bad in ["a..b", "a b", long.as_str()] {
        assert_eq!(addresses(&resolver, bad).await, Err(ResolveError::InvalidName), "{bad}");
    }
    assert_eq!(addresses(&resolver, "127.0.0.1").await.unwrap(), ["127.0.0.1:80"]);
    assert_eq!(addresses(&resolver, "[::1]").await.unwrap(), ["[::1]:80"]);
    assert_eq!((server.asked(), resolver.names_len()), (Vec::new(), 3));
}

#[tokio::test]
async fn after_the_end_nothing_is_asked() {
    let server = FakeDns::start().await;
    let resolver = Resolver::new(&settings(&server));
    resolver.stop().await;
    assert_eq!(addresses(&resolver, "web.example").await, Err(ResolveError::Stopped));
    assert_eq!(server.asked(), []);
}
