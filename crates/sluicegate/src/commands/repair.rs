//! `sluicegate repair`: what is damaged in a data directory, and moving it to quarantine.

use super::{Failure, complain, say};
use crate::cli::RepairArgs;
use model::QueueId;
use serde_json::{Value, json};
use std::collections::HashMap;
use storage::{Affected, Damage, DamagedBody, RealDisk, Report};

/// Queues by id, as people know them: vhost and name.
type Names = HashMap<QueueId, (String, String)>;

pub(crate) fn run(args: &RepairArgs) -> Result<(), Failure> {
    let shown = args.data.display();
    if !args.data.is_dir() {
        return Err(Failure::new(format!("{shown}: there is no such directory")));
    }
    let failed = |error: &dyn std::fmt::Display| Failure::new(format!("{shown}: {error}"));
    let disk = RealDisk::open(&args.data).map_err(|error| failed(&error))?;
    let report = storage::repair(&disk, args.apply).map_err(|error| failed(&error))?;
    let names: Names = broker::queue_names(&report.metas).collect();
    if args.json {
        say(&as_json(&report, &names, args.apply).to_string());
    } else {
        describe(&report, &names);
    }
    match (report.damages.is_empty(), args.apply) {
        (true, _) => Ok(()),
        (false, true) => {
            complain(&format!("all of this is in {shown}/quarantine now; everything else is as it was"));
            Ok(())
        }
        (false, false) => {
            Err(Failure::new("nothing was changed; with --apply what is damaged is moved to quarantine".to_owned()))
        }
    }
}

fn describe(report: &Report, names: &Names) {
    for body in &report.damaged_bodies {
        let what = body.offset.map_or("missing".to_owned(), |offset| format!("damaged at {offset}"));
        say(&format!("{}: {what}: a server keeps its messages aside; it cannot be repaired", body.file));
        for (id, messages) in &body.messages {
            say(&format!("  {}: {messages} messages", name_of(*id, names)));
        }
    }
    for file in &report.kept_bodies {
        say(&format!("{file}: a body that nothing tells of; it is kept as {}", storage::kept_name(file)));
    }
    if report.damages.is_empty() {
        let what = if report.damaged_bodies.is_empty() { "nothing" } else { "nothing else" };
        say(&format!("{what} is damaged: {} records are as they were written", report.intact_records));
        return;
    }
    for damage in &report.damages {
        let kind = damage.kind.unwrap_or("unreadable");
        say(&format!("{}: {} bytes at {}: {kind}", damage.file, damage.bytes, damage.offset));
        for (id, affected) in &damage.queues {
            say(&format!("  {}: {}", name_of(*id, names), in_words(*affected)));
        }
        if damage.queues.is_empty() && damage.kind.is_none() {
            say("  what it was cannot be told");
        }
    }
    say(&format!("{} damaged, {} records are as they were written", report.damages.len(), report.intact_records));
}

fn name_of(id: QueueId, names: &Names) -> String {
    match names.get(&id) {
        Some((vhost, name)) => format!("queue `{name}` of vhost `{vhost}`"),
        None => format!("queue with id {id}"),
    }
}

fn in_words(affected: Affected) -> String {
    let mut words = Vec::new();
    if affected.messages > 0 {
        words.push(format!("up to {} messages", affected.messages));
    }
    if affected.settles > 0 {
        words.push(format!("{} settles: these messages may come again", affected.settles));
    }
    if affected.created {
        words.push("its creation: what is left in it stays, in a plain queue".to_owned());
    }
    words.join(", ")
}

fn as_json(report: &Report, names: &Names, applied: bool) -> Value {
    let name = |id: &QueueId| names.get(id).map_or((Value::Null, Value::Null), |(v, n)| (json!(v), json!(n)));
    let queue = |(id, affected): (&QueueId, &Affected)| {
        let (vhost, name) = name(id);
        json!({
            "id": id.0, "vhost": vhost, "name": name, "messages": affected.messages, "settles": affected.settles,
            "created": affected.created,
        })
    };
    let holds = |(id, messages): (&QueueId, &u64)| {
        let (vhost, name) = name(id);
        json!({"id": id.0, "vhost": vhost, "name": name, "messages": messages})
    };
    let body = |body: &DamagedBody| {
        json!({
            "file": body.file, "offset": body.offset, "missing": body.offset.is_none(),
            "queues": body.messages.iter().map(holds).collect::<Vec<_>>(),
        })
    };
    let damage = |damage: &Damage| {
        json!({
            "file": damage.file, "offset": damage.offset, "bytes": damage.bytes, "kind": damage.kind,
            "queues": damage.queues.iter().map(queue).collect::<Vec<_>>(),
        })
    };
    json!({
        "applied": applied && !report.damages.is_empty(),
        "damages": report.damages.iter().map(damage).collect::<Vec<_>>(),
        "quarantined_files": report.quarantined,
        "damaged_bodies": report.damaged_bodies.iter().map(body).collect::<Vec<_>>(),
        "kept_bodies": report.kept_bodies,
        "intact_records": report.intact_records,
    })
}
