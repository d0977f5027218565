//! Eureka's registry: the instances of an application that are up.
//!
//! `GET …/apps/<NAME>` gives all; `GET …/apps/delta` gives what changed within the last minutes, of all applications, and
//! repeats it from poll to poll, so applying it twice changes nothing. All is fetched at first, after a failure, and once
//! in a while ([`FULL_EVERY`]), because a delta that nobody saw is lost (Eureka REST operations, Netflix wiki).

use super::{Asked, Failure, Instance};
use gateway::entity::Discovery;
use http::header::{ACCEPT, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Polls until all is fetched again.
const FULL_EVERY: u32 = 10;

/// Where the polls of one application stand.
#[derive(Debug, Default)]
pub(super) struct Eureka {
    /// By id, those that are up.
    instances: BTreeMap<String, Instance>,
    /// Polls since all was fetched; 0: fetch all.
    polls: u32,
}

/// What a registry says of an instance.
struct Said {
    id: String,
    instance: Option<Instance>,
}

impl Eureka {
    /// The next poll.
    pub(super) fn ask(&self, discovery: &Discovery) -> Asked {
        let target = if self.is_delta() {
            "/apps/delta".to_owned()
        } else {
            let name = discovery.service.to_ascii_uppercase();
            format!("/apps/{}", utf8_percent_encode(&name, NON_ALPHANUMERIC))
        };
        let headers = [(ACCEPT, HeaderValue::from_static("application/json"))].into_iter().collect();
        Asked { target, headers, patience: Duration::from_millis(discovery.timeout_ms.into()) }
    }

    const fn is_delta(&self) -> bool {
        self.polls > 0 && self.polls < FULL_EVERY
    }

    /// Takes a good answer in.
    pub(super) fn take(&mut self, service: &str, body: &[u8]) -> Result<Vec<Instance>, Failure> {
        let delta = self.is_delta();
        let polls = std::mem::take(&mut self.polls);
        let body: Value = serde_json::from_slice(body).map_err(|error| Failure::Garbage(error.to_string()))?;
        if delta {
            let applications = body.get("applications").ok_or_else(|| garbage("there is no `applications`"))?;
            let changed = one_or_many(applications.get("application"));
            for application in changed.iter().filter(|application| is_named(application, service)) {
                for instance in one_or_many(application.get("instance")) {
                    let deleted = instance.get("actionType").and_then(Value::as_str) == Some("DELETED");
                    let said = read(instance)?;
                    match said.instance.filter(|_| !deleted) {
                        Some(instance) => self.instances.insert(said.id, instance),
                        None => self.instances.remove(&said.id),
                    };
                }
            }
            self.polls = polls + 1;
        } else {
            let application = body.get("application").ok_or_else(|| garbage("there is no `application`"))?;
            let said: Result<Vec<Said>, Failure> =
                one_or_many(application.get("instance")).into_iter().map(read).collect();
            let up = said?.into_iter().filter_map(|said| Some((said.id, said.instance?)));
            self.instances = up.collect();
            self.polls = 1;
        }
        Ok(self.instances.values().cloned().collect())
    }

    /// An application that the registry does not know has no instances.
    pub(super) fn unknown(&mut self) -> Option<Vec<Instance>> {
        if self.is_delta() {
            return None;
        }
        self.instances.clear();
        Some(Vec::new())
    }

    /// The next poll fetches all.
    pub(super) fn begin_anew(&mut self) {
        self.polls = 0;
    }
}

fn garbage(why: &str) -> Failure {
    Failure::Garbage(why.to_owned())
}

fn is_named(application: &Value, service: &str) -> bool {
    application.get("name").and_then(Value::as_str).is_some_and(|name| name.eq_ignore_ascii_case(service))
}

/// A list, which the registry writes as its only item where it has one.
fn one_or_many(value: Option<&Value>) -> Vec<&Value> {
    match value {
        Some(Value::Array(items)) => items.iter().collect(),
        Some(Value::Null) | None => Vec::new(),
        Some(item) => vec![item],
    }
}

/// An instance; without one in it if it is not up or has no port.
fn read(value: &Value) -> Result<Said, Failure> {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let host = text("ipAddr").filter(|ip| !ip.is_empty()).or_else(|| text("hostName"));
    let host = host.ok_or_else(|| garbage("an instance has neither `ipAddr` nor `hostName`"))?;
    let port = enabled_port(value.get("port")).or_else(|| enabled_port(value.get("securePort")));
    let id = text("instanceId").map_or_else(|| format!("{host}:{}", port.unwrap_or(0)), str::to_owned);
    let up = text("status") == Some("UP");
    let instance = port.filter(|_| up).map(|port| Instance { host: host.to_owned(), port, weight: 1 });
    Ok(Said { id, instance })
}

/// `{"$": 8080, "@enabled": "true"}`; numbers and words may come as text.
fn enabled_port(value: Option<&Value>) -> Option<u16> {
    let value = value?;
    let number = value.get("$")?;
    let enabled = match value.get("@enabled")? {
        Value::Bool(enabled) => *enabled,
        enabled => enabled.as_str() == Some("true"),
    };
    let number = number.as_u64().or_else(|| number.as_str()?.parse().ok())?;
    u16::try_from(number).ok().filter(|port| enabled && *port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn instance(id: &str, ip: &str, status: &str, action: &str) -> Value {
        json!({"instanceId": id, "hostName": "h", "app": "ORDERS", "ipAddr": ip, "status": status, "actionType": action,
               "port": {"$": 8080, "@enabled": "true"}, "securePort": {"$": 443, "@enabled": "false"}})
    }

    fn take(eureka: &mut Eureka, body: &Value) -> Result<Vec<String>, Failure> {
        let instances = eureka.take("orders", body.to_string().as_bytes())?;
        Ok(instances.iter().map(|instance| format!("{}:{}", instance.host, instance.port)).collect())
    }

    fn delta(application: &Value) -> Value {
        json!({"applications": {"versions__delta": "2", "apps__hashcode": "UP_2_", "application": application}})
    }

    #[test]
    fn all_is_fetched_first_and_changes_are_applied_then() {
        let discovery = Discovery::eureka("http://127.0.0.1:8761/eureka", "orders").unwrap();
        let mut eureka = Eureka::default();
        assert_eq!(eureka.ask(&discovery).target, "/apps/ORDERS");
        let all = [instance("a", "10.0.0.1", "UP", "ADDED"), instance("b", "10.0.0.2", "DOWN", "ADDED")];
        assert_eq!(
            take(&mut eureka, &json!({"application": {"name": "ORDERS", "instance": all}})).unwrap(),
            ["10.0.0.1:8080"]
        );
        assert_eq!(eureka.ask(&discovery).target, "/apps/delta");
        let changes = [
            instance("b", "10.0.0.2", "UP", "MODIFIED"),
            instance("a", "10.0.0.1", "UP", "DELETED"),
            instance("c", "10.0.0.3", "UP", "ADDED"),
        ];
        let changed = delta(&json!([{"name": "OTHER", "instance": []}, {"name": "ORDERS", "instance": changes}]));
        assert_eq!(take(&mut eureka, &changed).unwrap(), ["10.0.0.2:8080", "10.0.0.3:8080"]);
        assert_eq!(take(&mut eureka, &changed).unwrap(), ["10.0.0.2:8080", "10.0.0.3:8080"], "twice is once");
        for _ in 0..FULL_EVERY {
            let target = eureka.ask(&discovery).target;
            if target == "/apps/ORDERS" {
                return;
            }
            take(&mut eureka, &delta(&json!([]))).unwrap();
        }
        unreachable!("all is fetched now and then");
    }

    #[test]
    fn one_instance_may_come_without_brackets_and_numbers_as_text() {
        let one = json!({"instanceId": "a", "hostName": "h.example", "status": "UP",
                         "port": {"$": "7000", "@enabled": "false"}, "securePort": {"$": "7443", "@enabled": true}});
        let mut eureka = Eureka::default();
        let all = json!({"application": {"name": "ORDERS", "instance": one}});
        assert_eq!(take(&mut eureka, &all).unwrap(), ["h.example:7443"]);
        assert_eq!(take(&mut eureka, &delta(&json!({"name": "orders", "instance": one}))).unwrap(), ["h.example:7443"]);
    }

    #[test]
    fn garbage_is_refused_and_all_is_fetched_next() {
        let mut eureka = Eureka::default();
        let all = json!({"application": {"name": "ORDERS", "instance": []}});
        for bad in [json!([]), json!({"applications": {}}), json!({"application": {"instance": [{"status": "UP"}]}})] {
            assert!(take(&mut eureka, &bad).is_err(), "{bad}");
        }
        take(&mut eureka, &all).unwrap();
        assert!(eureka.is_delta());
        assert!(take(&mut eureka, &json!({"oops": 1})).is_err());
        assert!(!eureka.is_delta());
    }

    #[test]
    fn an_application_that_is_not_known_has_no_instances() {
        let mut eureka = Eureka::default();
        assert_eq!(eureka.unknown(), Some(Vec::new()));
        take(&mut eureka, &json!({"application": {"name": "ORDERS", "instance": []}})).unwrap();
        assert_eq!(eureka.unknown(), None, "a server without deltas");
    }
}
