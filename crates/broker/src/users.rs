//! Users: how they prove who they are and what they may do (RabbitMQ's access control).
//!
//! Invariants: passwords are kept hashed only; hashes are compared in constant time. A user has access to a vhost
//! exactly if it has permissions there. The default exchange goes by the name `amq.default` in permissions.

use crate::observe::UserView;
use crate::refuse::{self, Resource};
use model::definitions::{Definitions, PasswordDef, PasswordHash, PermissionDef, TopicPermissionDef, UserDef};
use protocol::Refusal;
use regex::{Regex, RegexBuilder};
use sha2::{Digest, Sha256, Sha512};
use std::collections::HashMap;
use std::sync::Arc;

/// Bytes a compiled permission may take.
const PATTERN_BYTES_MAX: usize = 256 * 1024;

/// Everybody, and what they may do.
#[derive(Debug, Default)]
pub(crate) struct Users {
    users: HashMap<Arc<str>, User>,
}

#[derive(Debug)]
struct User {
    password: Option<HashedPassword>,
    tags: Arc<[String]>,
    vhosts: HashMap<Arc<str>, Arc<Access>>,
}

#[derive(Debug)]
struct HashedPassword {
    algorithm: PasswordHash,
    salted_hash: Vec<u8>,
}

/// What a user may do in a vhost.
#[derive(Debug)]
pub(crate) struct Access {
    /// The user.
    pub(crate) user: Arc<str>,
    /// The vhost.
    pub(crate) vhost: Arc<str>,
    /// The user may publish in another's name.
    pub(crate) impersonator: bool,
    configure: Pattern,
    write: Pattern,
    read: Pattern,
    topics: HashMap<String, (Pattern, Pattern)>,
}

/// What is done to a resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verb {
    /// Declare and delete.
    Configure,
    /// Publish to, bind to.
    Write,
    /// Consume, get, purge, bind from.
    Read,
}

/// A permission's regular expression, unanchored; the two common ones cost nothing.
#[derive(Debug)]
enum Pattern {
    Nothing,
    Everything,
    Matching(Regex),
}

impl Pattern {
    fn new(text: &str) -> Result<Self, String> {
        match text {
            "" | "^$" => Ok(Self::Nothing),
            ".*" => Ok(Self::Everything),
            _ => RegexBuilder::new(text)
                .size_limit(PATTERN_BYTES_MAX)
                .build()
                .map(Self::Matching)
                .map_err(|error| format!("'{text}' is not a usable regular expression: {error}")),
        }
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Matching(regex) => regex.is_match(name),
        }
    }
}

impl Access {
    /// Refuses if the user may not do this to the resource.
    pub(crate) fn check(&self, verb: Verb, what: Resource<'_>) -> Result<(), Refusal> {
        let (Resource::Queue(vhost, name) | Resource::Exchange(vhost, name)) = what;
        let is_default = matches!(what, Resource::Exchange(_, ""));
        let name = if is_default { "amq.default" } else { name };
        if self.pattern(verb).matches(name) {
            return Ok(());
        }
        let what = match what {
            Resource::Exchange(..) => Resource::Exchange(vhost, name),
            Resource::Queue(..) => what,
        };
        Err(refuse::access(what, &self.user))
    }

    /// Refuses if the user may do none of the three to the resource.
    pub(crate) fn check_any(&self, what: Resource<'_>) -> Result<(), Refusal> {
        self.check(Verb::Write, what)
            .or_else(|_| self.check(Verb::Read, what))
            .or_else(|_| self.check(Verb::Configure, what))
    }

    /// Refuses if the user may not use this key on a topic exchange.
    pub(crate) fn check_topic(&self, verb: Verb, exchange: &str, key: &str) -> Result<(), Refusal> {
        let Some((write, read)) = self.topics.get(exchange) else {
            return Ok(());
        };
        let pattern = if verb == Verb::Write { write } else { read };
        if pattern.matches(key) {
            return Ok(());
        }
        Err(refuse::topic_access(key, Resource::Exchange(&self.vhost, exchange), &self.user))
    }

    fn pattern(&self, verb: Verb) -> &Pattern {
        match verb {
            Verb::Configure => &self.configure,
            Verb::Write => &self.write,
            Verb::Read => &self.read,
        }
    }
}

impl Users {
    /// The users of the definitions, or `guest` alone, with password `guest` and every permission in `/`, if they
    /// name none. Problems are added to `problems`.
    pub(crate) fn from_definitions(definitions: &Definitions, problems: &mut Vec<String>) -> Self {
        let mut users = Self::default();
        if definitions.users.is_empty() {
            users.add_guest(&definitions.permissions, problems);
        }
        for user in &definitions.users {
            users.add(user, problems);
        }
        for permission in &definitions.permissions {
            users.permit(permission, &definitions.topic_permissions, problems);
        }
        for topic in &definitions.topic_permissions {
            let known = users.users.get(&*topic.user).is_some_and(|u| u.vhosts.contains_key(&*topic.vhost));
            if !known {
                problems.push(format!(
                    "topic permission for exchange '{}': user '{}' has no permissions in vhost '{}'",
                    topic.exchange, topic.user, topic.vhost
                ));
            }
        }
        users
    }

    fn add_guest(&mut self, permissions: &[PermissionDef], problems: &mut Vec<String>) {
        let guest = UserDef {
            name: "guest".into(),
            password: PasswordDef::Plain(model::Secret::new("guest".into())),
            tags: vec!["administrator".into()],
        };
        self.add(&guest, problems);
        if !permissions.iter().any(|p| p.user == "guest") {
            let everything = PermissionDef {
                user: "guest".into(),
                vhost: "/".into(),
                configure: ".*".into(),
                write: ".*".into(),
                read: ".*".into(),
            };
            self.permit(&everything, &[], problems);
        }
    }

    fn add(&mut self, user: &UserDef, problems: &mut Vec<String>) {
        let password = match &user.password {
            PasswordDef::None => None,
            PasswordDef::Plain(secret) => {
                // The hash lives in memory only, so a salt that differs by user is enough.
                let salt = Sha256::digest(user.name.as_bytes());
                let mut salted_hash = salt[..4].to_vec();
                let hash = hash(PasswordHash::Sha256, &salt[..4], secret.reveal());
                salted_hash.extend_from_slice(&hash);
                Some(HashedPassword { algorithm: PasswordHash::Sha256, salted_hash })
            }
            PasswordDef::Hashed { algorithm, salted_hash } => {
                if salted_hash.len() != algorithm.salted_len() {
                    problems.push(format!(
                        "user '{}': a password hash has {} bytes, not {}",
                        user.name,
                        algorithm.salted_len(),
                        salted_hash.len()
                    ));
                }
                Some(HashedPassword { algorithm: *algorithm, salted_hash: salted_hash.clone() })
            }
        };
        let known = self.users.insert(
            user.name.as_str().into(),
            User { password, tags: user.tags.clone().into(), vhosts: HashMap::new() },
        );
        if known.is_some() {
            problems.push(format!("user '{}' is named twice", user.name));
        }
    }

    fn permit(&mut self, permission: &PermissionDef, topics: &[TopicPermissionDef], problems: &mut Vec<String>) {
        let PermissionDef { user, vhost, .. } = permission;
        let Some((name, record)) = self.users.get_key_value(&**user) else {
            problems.push(format!("permission in vhost '{vhost}': there is no user '{user}'"));
            return;
        };
        let mut read = |text: &str| {
            Pattern::new(text).unwrap_or_else(|why| {
                problems.push(format!("permission of user '{user}' in vhost '{vhost}': {why}"));
                Pattern::Nothing
            })
        };
        let expand =
            |text: &str| text.replace("{username}", &regex::escape(user)).replace("{vhost}", &regex::escape(vhost));
        let access = Access {
            user: name.clone(),
            vhost: vhost.as_str().into(),
            impersonator: record.tags.iter().any(|t| t == "impersonator"),
            configure: read(&permission.configure),
            write: read(&permission.write),
            read: read(&permission.read),
            topics: topics
                .iter()
                .filter(|t| t.user == *user && t.vhost == *vhost)
                .map(|t| {
                    let patterns = (read(&expand(&t.write)), read(&expand(&t.read)));
                    (t.exchange.clone(), patterns)
                })
                .collect(),
        };
        if let Some(record) = self.users.get_mut(&**user) {
            record.vhosts.insert(access.vhost.clone(), Arc::new(access));
        }
    }

    /// The user of that name if the password is right.
    pub(crate) fn authenticate(&self, user: &str, password: &str) -> Option<Arc<str>> {
        let (name, record) = self.users.get_key_value(user)?;
        let known = record.password.as_ref()?;
        let (salt, expected) = known.salted_hash.split_at_checked(4)?;
        let given = hash(known.algorithm, salt, password);
        same_bytes(&given, expected).then(|| name.clone())
    }

    /// What a user may do in a vhost.
    pub(crate) fn access(&self, user: &str, vhost: &str) -> Option<Arc<Access>> {
        self.users.get(user)?.vhosts.get(vhost).cloned()
    }

    /// Users in order of names.
    pub(crate) fn list(&self) -> Vec<UserView> {
        let mut all: Vec<_> = self
            .users
            .iter()
            .map(|(name, user)| {
                let mut vhosts: Vec<String> = user.vhosts.keys().map(|v| (**v).into()).collect();
                vhosts.sort();
                UserView { name: name.to_string(), tags: user.tags.to_vec(), vhosts }
            })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Tags of a user whose password is right; for the management listener.
    pub(crate) fn tags(&self, user: &str, password: &str) -> Option<Arc<[String]>> {
        let name = self.authenticate(user, password)?;
        self.users.get(&name).map(|u| u.tags.clone())
    }
}

fn hash(algorithm: PasswordHash, salt: &[u8], password: &str) -> Vec<u8> {
    match algorithm {
        PasswordHash::Sha256 => Sha256::new().chain_update(salt).chain_update(password).finalize().to_vec(),
        PasswordHash::Sha512 => Sha512::new().chain_update(salt).chain_update(password).finalize().to_vec(),
    }
}

/// Compares in a time that depends on the lengths only.
fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    let mut difference = u8::from(a.len() != b.len());
    for (a, b) in a.iter().zip(b) {
        difference |= a ^ b;
    }
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;

    #[test]
    fn hashes_are_rabbitmqs() {
        // The example of RabbitMQ's documentation on passwords: salt 908DC60A, password test12.
        let salted =
            base64::prelude::BASE64_STANDARD.decode("kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR").unwrap();
        let definitions = Definitions {
            users: vec![UserDef {
                name: "u".into(),
                password: PasswordDef::Hashed { algorithm: PasswordHash::Sha256, salted_hash: salted },
                tags: vec![],
            }],
            ..Definitions::default()
        };
        let mut problems = Vec::new();
        let users = Users::from_definitions(&definitions, &mut problems);
        assert_eq!(problems, [""; 0]);
        assert!(users.authenticate("u", "test12").is_some());
        assert!(users.authenticate("u", "test13").is_none());
        assert!(users.authenticate("v", "test12").is_none());
        assert!(users.access("u", "/").is_none());
    }

    #[test]
    fn problems_are_all_told() {
        let permission = |user: &str, read: &str| PermissionDef {
            user: user.into(),
            vhost: "/".into(),
            configure: String::new(),
            write: ".*".into(),
            read: read.into(),
        };
        let definitions = Definitions {
            permissions: vec![permission("nobody", ""), permission("guest", "(")],
            ..Definitions::default()
        };
        let mut problems = Vec::new();
        Users::from_definitions(&definitions, &mut problems);
        assert_eq!(problems.len(), 2, "{problems:?}");
    }
}
