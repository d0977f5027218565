//! From a path and an environment to settings: read, parse, overlay, check everything, resolve.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use ::plugin::Registry;

use crate::admin;
use crate::definitions;
use crate::dns;
use crate::entities::{self, QueueUse};
use crate::env;
use crate::forwarding;
use crate::listen::{self, Credentials, io_words};
use crate::problem::{Errors, Problem, Problems, Warning};
use crate::quotas::quotas;
use crate::reader::{Check, MapReader, Place};
use crate::settings::{Broker, DEFAULT_USER, Settings};
use crate::source::{Origin, SourceId, Sources, Span};
use crate::subscriptions;
use crate::tree::{Node, Value};
use crate::yaml;
use model::Table;
use model::definitions::{Definitions, DestinationType, PasswordDef, QueueDef};

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "sluicegate.yaml";

/// Keys of ours at the top level.
const OWN_KEYS: [&str; 9] =
    ["listen", "admin", "storage", "limits", "dns", "gateway", "broker", "subscriptions", "telemetry"];
/// Keys of ours that are planned.
const OWN_NOT_YET: [&str; 1] = ["cluster"];
/// Keys about the file itself.
const META_KEYS: [&str; 3] = ["_format_version", "_transform", "_comment"];

/// A configuration that is right.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub settings: Settings,
    /// What is right but probably not meant.
    pub warnings: Vec<Warning>,
}

/// The file to read when the user names none: `./sluicegate.yaml` if there is one.
#[must_use]
pub fn default_file(cwd: &Path) -> Option<PathBuf> {
    cwd.join(DEFAULT_FILE).exists().then(|| PathBuf::from(DEFAULT_FILE))
}

/// The environment of this process, as [`load`] wants it. A value that is not Unicode is read with replacement
/// characters, so that it is refused where it stands and not a reason to panic.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

/// Reads a configuration: the file, if one is named, and over it the variables that begin with `SLUICEGATE_`.
///
/// Relative paths in a file are relative to that file's directory; those in variables and defaults, to `cwd`.
///
/// # Errors
/// Every mistake found in the file, the definitions file and the variables, in that order.
pub fn load(
    path: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
    cwd: &Path,
    registry: &Registry,
) -> Result<Loaded, Errors> {
    match path {
        None => load_text(None, String::new(), env, cwd, registry),
        Some(path) => {
            let full = cwd.join(path);
            let text = read_file(&full).map_err(|error| {
                let help =
                    (error.kind() == std::io::ErrorKind::NotFound).then(|| format!("looked for {}", full.display()));
                Errors::unreadable(path.display().to_string(), format!("cannot be read: {}", io_words(&error)), help)
            })?;
            load_text(Some(path), text, env, cwd, registry)
        }
    }
}

/// The same for a text that was read already; `path` is what it is called.
///
/// # Errors
/// As [`load`].
pub fn load_text(
    path: Option<&Path>,
    text: String,
    env: impl IntoIterator<Item = (String, String)>,
    cwd: &Path,
    registry: &Registry,
) -> Result<Loaded, Errors> {
    let mut sources = Sources::default();
    let mut problems = Problems::default();
    let origin = match path {
        Some(path) => {
            let directory = cwd.join(path).parent().map_or_else(|| cwd.to_owned(), Path::to_owned);
            Origin::File { shown: path.display().to_string(), directory }
        }
        None => Origin::Defaults { directory: cwd.to_owned() },
    };
    let text_is_empty = text.is_empty();
    let main = sources.add(origin, text);
    let parsed = match path {
        None if text_is_empty => Some(Node::empty_map(Span::whole(main))),
        _ => document(main, &sources, &mut problems),
    };
    let readable = parsed.is_some();
    let mut root = parsed.unwrap_or_else(|| Node::empty_map(Span::whole(main)));
    let env: HashMap<String, String> = env.into_iter().collect();
    let variable = |name: &str| env.get(name).cloned();
    let known: Vec<&str> = OWN_KEYS.iter().chain(&entities::KEYS).chain(&META_KEYS).copied().collect();
    for variable in env::ours(env.iter().map(|(name, value)| (name.clone(), value.clone()))) {
        env::apply(&mut root, variable, &known, cwd, &mut sources, &mut problems);
    }
    let definitions_file = definitions_file(&root, &mut sources, &mut problems);
    let mut check = Check::new(&sources, problems);
    let settings = if readable {
        let from = gateway::convert::Sources { registry, variable: &variable };
        settings(&mut check, &root, definitions_file.as_ref(), cwd, from)
    } else {
        // After a syntax error everything would be "missing".
        Settings::default()
    };
    let Check { problems, warnings, secrets, .. } = check;
    if problems.all.is_empty() {
        Ok(Loaded { settings, warnings })
    } else {
        Err(Errors::resolve(problems.all, &sources, &secrets))
    }
}

/// A YAML text as JSON, its scalars typed by their look: for a configuration that does not come from a file.
///
/// # Errors
/// Why it cannot be read, with the line.
pub fn parse(text: String) -> Result<serde_json::Value, String> {
    let (mut sources, mut problems) = (Sources::default(), Problems::default());
    let source = sources.add(Origin::Defaults { directory: PathBuf::new() }, text);
    let node = document(source, &sources, &mut problems);
    match node.filter(|_| problems.all.is_empty()) {
        Some(node) => Ok(entities::plain(&mut Check::new(&sources, problems), &node)),
        None => {
            let errors = Errors::resolve(problems.all, &sources, &[]);
            let first = errors.iter().next().map(|error| format!("line {}: {}", error.line, error.message));
            Err(first.unwrap_or_default())
        }
    }
}

/// Reads a bounded UTF-8 text.
fn read_file(path: &Path) -> std::io::Result<String> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(std::io::Error::other("it is a directory"));
    }
    let mut bytes = Vec::new();
    // One byte more than allowed, so that the parser can say how it is too long.
    file.take(yaml::TEXT_SIZE_MAX as u64 + 1).read_to_end(&mut bytes)?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid].iter().filter(|&&b| b == b'\n').count() + 1;
        std::io::Error::other(format!("it is not UTF-8 text (line {line})"))
    })
}

/// A file, parsed. One that says nothing was more likely cut short than meant, and would take away every route.
fn document(source: SourceId, sources: &Sources, problems: &mut Problems) -> Option<Node> {
    let parsed = yaml::parse(source, &sources.get(source).text, problems)?;
    if matches!(parsed.value, Value::Null) {
        let problem = Problem::new(Span::whole(source), "there is nothing in it");
        problems.push(problem.help("for the defaults write `{}`"));
        return None;
    }
    Some(parsed)
}

/// A definitions file, parsed; or why there is none.
fn definitions_file(root: &Node, sources: &mut Sources, problems: &mut Problems) -> Option<Node> {
    let node = root.get("broker")?.get("definitions_file")?;
    let text = node.text().filter(|text| !text.is_empty() && !text.contains('\0'))?;
    let path = sources.directory(node.at.source).join(text);
    match read_file(&path) {
        Ok(content) => {
            let directory = path.parent().map(Path::to_owned).unwrap_or_default();
            let source = sources.add(Origin::File { shown: text.to_owned(), directory }, content);
            let parsed = document(source, sources, problems);
            Some(parsed.unwrap_or_else(|| Node::empty_map(Span::whole(source))))
        }
        Err(error) => {
            problems.push(Problem::new(node.at, format!("{} cannot be read: {}", path.display(), io_words(&error))));
            None
        }
    }
}

/// Everything, from the tree.
fn settings(
    check: &mut Check<'_>,
    root: &Node,
    definitions_file: Option<&Node>,
    cwd: &Path,
    from: gateway::convert::Sources<'_>,
) -> Settings {
    let mut settings = Settings::default();
    let Some(mut map) = check.map(root, "a configuration") else { return settings };
    map.what = "";
    let is_file = matches!(check.sources.get(root.at.source).origin, Origin::File { .. });
    meta(check, &mut map, root, is_file);
    let nothing = Node::empty_map(root.at);
    let section = |map: &mut MapReader<'_, '_>, key| {
        map.entry(key).is_some().then(|| root.get(key)).flatten().unwrap_or(&nothing)
    };
    let (listen, placed) = listen::listen(check, section(&mut map, "listen"));
    settings.listen = listen;
    settings.admin = admin::admin(check, section(&mut map, "admin"));
    settings.storage = listen::storage(check, section(&mut map, "storage"), cwd);
    settings.limits = listen::limits(check, section(&mut map, "limits"));
    settings.dns = dns::dns(check, section(&mut map, "dns"));
    forwarding::gateway(check, section(&mut map, "gateway"), &mut settings);
    settings.telemetry = listen::telemetry(check, section(&mut map, "telemetry"));
    let read = entities::read(check, &mut map, root, from);
    settings.entities = read.entities;
    settings.store = read.store;
    let mut uses = read.uses;
    if let Some(entry) = map.entry("subscriptions") {
        let place = Place { key: "subscriptions", what: "" };
        settings.subscriptions = subscriptions::subscriptions(check, &entry.value, place, &mut uses);
    }
    settings.broker = broker(check, section(&mut map, "broker"), definitions_file, &uses);
    map.not_yet(check, &OWN_NOT_YET);
    map.finish(check);
    let definitions = &settings.broker.definitions;
    queue_uses(check, definitions, &uses);
    let credentials =
        Credentials { administrator: has_administrator(definitions), token: !settings.admin.tokens.is_empty() };
    listen::require_credentials(check, &placed, credentials);
    settings
}

/// What Kong's format says about the file itself.
fn meta(check: &mut Check<'_>, map: &mut MapReader<'_, '_>, root: &Node, is_file: bool) {
    let version = map.entry("_format_version");
    if version.is_none() && is_file && entities::KEYS.iter().any(|key| root.get(key).is_some()) {
        let problem = Problem::new(map.at(), "`_format_version` is missing").expected("`_format_version: \"3.0\"`");
        check.report(problem.help("put it on the first line"));
    }
}

fn broker(check: &mut Check<'_>, node: &Node, file: Option<&Node>, uses: &[QueueUse]) -> Broker {
    let Some(mut map) = check.map(node, "`broker`") else { return Broker::default() };
    let inline = map.entry("definitions").map(|entry| &entry.value);
    map.get(check, "definitions_file", listen::path);
    let quotas = map.get(check, "quotas", quotas).unwrap_or_default();
    map.not_yet(check, &["engine", "plugins"]);
    map.finish(check);
    let declared =
        uses.iter().flat_map(|used| used.queues.iter().map(|queue| (used.vhost.clone(), queue.clone()))).collect();
    if inline.is_some() && node.get("definitions_file").is_some_and(|node| !node.is_empty()) {
        let problem =
            Problem::new(node.at_key("definitions_file"), "`broker` has both `definitions` and `definitions_file`");
        check.report(problem.help("keep one of the two").related(node.at_key("definitions"), "`definitions` is"));
    }
    let empty = Node::empty_map(node.at);
    let mut definitions = definitions::definitions(check, inline.or(file).unwrap_or(&empty), &declared);
    define_bound_queues(&mut definitions);
    Broker { definitions, quotas }
}

/// A binding may lead to a queue that only a service or a subscription names. It must be there for the binding.
fn define_bound_queues(definitions: &mut Definitions) {
    let mut known: HashSet<(String, String)> =
        definitions.queues.iter().map(|queue| (queue.vhost.clone(), queue.name.clone())).collect();
    for binding in definitions.bindings.iter().filter(|binding| binding.destination_type == DestinationType::Queue) {
        let (vhost, name) = (binding.vhost.clone(), binding.destination.clone());
        if known.insert((vhost.clone(), name.clone())) {
            let arguments = Table::new();
            definitions.queues.push(QueueDef { vhost, name, durable: true, auto_delete: false, arguments });
        }
    }
}

/// Services and subscriptions act as users in vhosts that the broker must have.
fn queue_uses(check: &mut Check<'_>, definitions: &Definitions, uses: &[QueueUse]) {
    for used in uses {
        if !definitions.vhosts.iter().any(|vhost| vhost.name == used.vhost) {
            let known = definitions.vhosts.iter().map(|vhost| vhost.name.as_str());
            let problem = Problem::new(used.vhost_at, format!("there is no vhost `{}`", used.vhost));
            let help = check
                .did_you_mean(&used.vhost, known)
                .unwrap_or_else(|| String::from("add it to `broker.definitions.vhosts`"));
            check.report(problem.help(help));
        }
        if !definitions.users.iter().any(|user| user.name == used.user) {
            let known: Vec<&str> = definitions.users.iter().map(|user| user.name.as_str()).collect();
            let problem =
                Problem::new(used.user_at, format!("there is no user `{}` to publish and consume as", used.user));
            let help = check
                .did_you_mean(&used.user, known.iter().copied())
                .or_else(|| known.first().map(|name| format!("say `user: {name}`")));
            check.report(problem.maybe_help(help));
        }
    }
}

/// Whether somebody can sign in from another machine.
fn has_administrator(definitions: &Definitions) -> bool {
    definitions.users.iter().any(|user| {
        user.name != DEFAULT_USER
            && user.password != PasswordDef::None
            && user.tags.iter().any(|tag| tag == "administrator")
    })
}
