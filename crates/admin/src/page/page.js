// The read-only page: polls the management API and draws. Nothing here changes anything on the server.
"use strict";

const PERIOD_MS = 2000;
const POINTS = 150;
const POINTS_SHOWN_MIN = 30;
const byId = (id) => document.getElementById(id);
const series = { published: [], delivered: [], acked: [], requests: [] };
let before = null;

const count = (n) => n === undefined || n === null ? "–" : Math.round(n).toLocaleString("en");
const rate = (n) => n === null ? "–" : n >= 10 ? count(n) : n.toFixed(1);
const bytes = (n) => n >= 2 ** 30 ? (n / 2 ** 30).toFixed(1) + " GiB" : (n / 2 ** 20).toFixed(1) + " MiB";

// Text goes in as text, never as markup: names come from clients.
function cell(text, kind) {
  const td = document.createElement("td");
  td.textContent = text;
  td.title = text;
  if (kind) td.className = kind;
  return td;
}

function fill(id, rows) {
  const body = byId(id).tBodies[0];
  body.replaceChildren(...rows.map((cells) => {
    const tr = document.createElement("tr");
    tr.append(...cells);
    return tr;
  }));
  if (rows.length === 0) {
    const td = cell("none", "empty");
    td.colSpan = byId(id).tHead.rows[0].cells.length;
    const tr = document.createElement("tr");
    tr.append(td);
    body.append(tr);
  }
}

function tiles(list) {
  byId("tiles").replaceChildren(...list.map(([name, value]) => {
    const tile = document.createElement("div");
    tile.className = "tile";
    const b = document.createElement("b");
    b.textContent = value;
    const span = document.createElement("span");
    span.textContent = name;
    tile.append(b, span);
    return tile;
  }));
}

// The first minute fills the width; from then on the line shrinks until it shows five.
function draw(name, lines) {
  const peak = Math.max(0, ...lines.flatMap(([, , values]) => values));
  const max = Math.max(1, peak);
  const across = Math.max(POINTS_SHOWN_MIN, lines[0][2].length) - 1;
  byId(`peak-${name}`).textContent = `peak ${rate(peak)}`;
  byId(`chart-${name}`).replaceChildren(...lines.map(([, color, values]) => {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    const x = (i) => 600 - (values.length - 1 - i) * 600 / across;
    line.setAttribute("points", values.map((v, i) => `${x(i).toFixed(1)},${(116 - 110 * v / max).toFixed(1)}`).join(" "));
    line.setAttribute("class", color);
    return line;
  }));
  byId(`legend-${name}`).replaceChildren(...lines.map(([name, color, values]) => {
    const i = document.createElement("i");
    i.className = color;
    i.textContent = `${name} ${rate(values.at(-1) ?? 0)} `;
    return i;
  }));
}

function push(name, value) {
  series[name].push(value);
  if (series[name].length > POINTS) series[name].shift();
}

class NotLoggedIn extends Error {}

// The browser asks for user and password by itself; a 401 reaches us when nobody gave it any.
async function get(name) {
  const answer = await fetch(new URL(`api/${name}`, location.origin + location.pathname), { cache: "no-store" });
  if (answer.status === 401) throw new NotLoggedIn();
  if (!answer.ok) throw new Error(`api/${name}: ${answer.status}`);
  return answer.json();
}

function perSecond(now, then, seconds) {
  return now === undefined || then === undefined || seconds <= 0 ? null : Math.max(0, now - then) / seconds;
}

async function turn() {
  // One first and alone: it is what the browser asks the password for.
  const overview = await get("overview");
  const [queues, routes, connections] = await Promise.all(["queues", "routes", "connections"].map(get));
  const at = performance.now();
  const seconds = before ? (at - before.at) / 1000 : 0;
  const totals = overview.message_stats;
  const requests = routes.reduce((sum, route) => sum + route.requests, 0);
  if (before) {
    push("published", perSecond(totals.publish, before.totals.publish, seconds));
    push("delivered", perSecond(totals.deliver_get, before.totals.deliver_get, seconds));
    push("acked", perSecond(totals.ack, before.totals.ack, seconds));
    push("requests", perSecond(requests, before.requests, seconds));
  }
  byId("version").textContent = overview.product_version;
  const pressed = overview.pressure !== "none";
  byId("state").textContent = pressed ? `publishers are held back: low on ${overview.pressure}` : "running";
  byId("state").className = pressed ? "bad" : "";
  const store = overview.storage;
  tiles([
    ["ready", count(overview.queue_totals.messages_ready)],
    ["unacked", count(overview.queue_totals.messages_unacknowledged)],
    ["queues", count(overview.object_totals.queues)],
    ["consumers", count(overview.object_totals.consumers)],
    ["connections", count(overview.object_totals.connections)],
    ["mean sync", store.syncs ? (store.sync_us / store.syncs / 1000).toFixed(2) + " ms" : "–"],
    ["log on disk", bytes(store.file_bytes)],
    ["written ÷ taken in", store.write_amplification ? store.write_amplification.toFixed(2) : "–"],
    ["on disk ÷ needed", store.space_amplification ? store.space_amplification.toFixed(1) : "–"],
    ["bodies in RAM", bytes(store.resident_bytes)],
    ["process RSS", bytes(overview.rss_bytes)],
  ]);
  draw("messages", [["published", "a", series.published], ["delivered", "b", series.delivered], ["acked", "c", series.acked]]);
  draw("requests", [["requests", "a", series.requests]]);

  const old = before ? before.queues : new Map();
  fill("queues", queues.map((q) => {
    const was = old.get(q.vhost + "/" + q.name);
    const per = (key) => rate(perSecond(q.message_stats?.[key], was?.message_stats?.[key], seconds));
    const features = [q.durable ? "D" : "", q.auto_delete ? "AD" : "", q.exclusive ? "EX" : "", q.durability && q.durability !== "sync" ? `durability: ${q.durability}` : "", ...Object.keys(q.arguments)].filter(Boolean).join(" ");
    return [cell(q.name), cell(q.vhost), cell(features), cell(count(q.messages_ready), "n"), cell(count(q.messages_unacknowledged), "n"),
      cell(count(q.consumers), "n"), cell(per("publish"), "n"), cell(per("deliver_get"), "n"), cell(per("ack"), "n")];
  }));
  byId("n-queues").textContent = queues.length;

  const oldRoutes = before ? before.routes : new Map();
  fill("routes", routes.map((r) => {
    const was = oldRoutes.get(r.id);
    const group = (digit) => Object.entries(r.codes).filter(([code]) => code[0] === digit).reduce((n, [, c]) => n + c, 0);
    return [cell(r.name), cell(r.service), cell(r.matches), cell(count(r.requests), "n"),
      cell(rate(was ? perSecond(r.requests, was.requests, seconds) : null), "n"), cell(count(group("2")), "n"),
      cell(count(group("4")), "n"), cell(count(group("5")), group("5") ? "n warn" : "n"), cell(r.requests ? (r.total_us / r.requests / 1000).toFixed(1) : "–", "n")];
  }));
  byId("n-routes").textContent = routes.length;

  fill("connections", connections.map((c) => [cell(c.name), cell(c.protocol), cell(c.user), cell(c.vhost), cell(c.client), cell(count(c.channels), "n")]));
  byId("n-connections").textContent = connections.length;

  before = { at, totals, requests, queues: new Map(queues.map((q) => [q.vhost + "/" + q.name, q])), routes: new Map(routes.map((r) => [r.id, r])) };
}

async function run() {
  try {
    await turn();
    byId("login").hidden = true;
    byId("live").hidden = false;
  } catch (error) {
    byId("state").className = "bad";
    if (error instanceof NotLoggedIn) {
      // Asking again by ourselves would bring the browser's question back every two seconds.
      byId("state").textContent = "not logged in";
      byId("login").hidden = false;
      byId("live").hidden = true;
      return;
    }
    byId("state").textContent = `no answer: ${error.message}`;
  }
  setTimeout(run, PERIOD_MS);
}

byId("again").addEventListener("click", run);
run();
