"""Kong's Admin API, one case for each row of `kong_parity.py`: defaults, ranges, words, rules, and the body of each error."""

import collections
import copy
import json
import re
import uuid

import pytest
import trustme

from harness.http_client import request
from harness.server import Server
from harness.keys import ca_pem, cert_pair, public_key
from kong_parity import AUTO, ENTITIES, MUST, NONE, UNKNOWN

pytestmark = pytest.mark.ours
COUNTS = collections.Counter()
LISTS, ONES = "GET, HEAD, OPTIONS, POST", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"


@pytest.fixture(scope="module")
def kong(tmp_path_factory):
    """A server of no entities, with those that others need to refer to."""
    server = Server(tmp_path_factory.mktemp("parity")).start()
    yield Kong(server)
    server.close()
    by_kind = ", ".join(f"{kind} {count}" for kind, count in sorted(COUNTS.items()))
    print(f"\nparity: {sum(COUNTS.values())} cases: {by_kind}")


class Kong:
    """The Admin API of a server, and the values that placeholders of the table stand for."""

    def __init__(self, server):
        self.port = server.ports["admin"]
        cert, key = cert_pair()
        self.words = {"$cert": cert, "$key": key, "$other_key": cert_pair()[1], "$ca": ca_pem(),
                      "$public_key": public_key()}
        self.parents = set()

    def call(self, method, path, body=None, headers=None):
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json"} | (headers or {}) if body is not None else headers or {}
        answer = request(self.port, method, "/" + path.lstrip("/"), headers=headers, body=data)
        return answer.status, json.loads(answer.text) if answer.text else None, answer.headers

    def filled(self, value):
        if isinstance(value, dict):
            return {name: self.filled(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self.filled(item) for item in value]
        if isinstance(value, str) and value.startswith("$"):
            if value == "$certificate":
                pair = {"cert": self.words["$cert"], "key": self.words["$key"]}
                self.call("PUT", f"/certificates/{UUID_OF_CERTIFICATE}", pair)
                return UUID_OF_CERTIFICATE
            return "".join(self.words["$" + name] for name in value[1:].split("$"))
        return value

    def parent(self, entity):
        """What the entity's path is below."""
        if "parent" in entity and entity["path"] not in self.parents:
            kind, body = entity["parent"]
            status, made, _ = self.call("POST", f"/{kind}", body)
            assert status == 201, made
            self.parents.add(entity["path"])

    def body(self, entity, *overlays):
        body = copy.deepcopy(entity["base"])
        for overlay in overlays:
            body.update(overlay)
        return self.filled({name: value for name, value in body.items()})

    def create(self, entity, body):
        """Creates, and takes away again; returns what was shown."""
        self.parent(entity)
        status, shown, _ = self.call("POST", f"/{entity['path']}", body)
        assert status == 201, shown
        own = single(entity)
        status, again, _ = self.call("GET", f"/{own}/{shown['id']}")
        if shown.get("ttl"):
            assert 0 <= shown["ttl"] - again["ttl"] <= 60, "the seconds that are left"
            again["ttl"] = shown["ttl"]
        assert (status, again) == (200, shown), "what is shown later is what was shown at first"
        status, _, _ = self.call("DELETE", f"/{own}/{shown['id']}")
        assert status == 204
        return shown

    def refused(self, entity, body, messages, fields):
        """A POST that is a schema violation, word for word."""
        self.parent(entity)
        status, answer, _ = self.call("POST", f"/{entity['path']}", body)
        fields = ({"@entity": messages} if messages else {}) | fields
        assert (status, answer) == (400, {
            "code": 2, "name": "schema violation", "fields": fields, "message": violation(fields)})


UUID_OF_CERTIFICATE = "cccccccc-2222-4333-8444-555555555555"


def single(entity):
    """Where one entity is found."""
    return {"keyauth_credentials": "key-auths"}.get(kind(entity), entity["path"])


def kind(entity):
    return entity.get("kind", entity["path"].replace("-", "_"))




def pretty(value, indent="  "):
    """A table as Penlight's `pretty.write` shows it."""
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, list):
        items = [pretty(item, indent + "  ") for item in value]
    else:
        items = [f"{name if re.fullmatch(r'[A-Za-z_][A-Za-z0-9_]*', name) else '[' + pretty(name) + ']'} = "
                 f"{pretty(item, indent + '  ')}" for name, item in sorted(value.items())]
    return "{\n" + ",\n".join(indent + item for item in items) + "\n" + indent[2:] + "}"


def violation(fields):
    """The message that Kong makes of the fields."""
    parts = list(fields.get("@entity", []))
    for name in sorted(set(fields) - {"@entity"}):
        error = fields[name]
        if isinstance(error, list):
            error = {str(at + 1): item for at, item in enumerate(error) if item is not None}
        if isinstance(error, dict):
            parts += [f"{name}.{sub}: {item if isinstance(item, str) else pretty(item)}"
                      for sub, item in sorted(error.items())]
        else:
            parts.append(f"{name}: {error}")
    if len(parts) == 1:
        return f"schema violation ({parts[0]})"
    return f"{len(parts)} schema violations ({'; '.join(parts)})"


def short(value):
    return re.sub(r"[^\w.,:=/-]+", "_", json.dumps(value))[:60]


def rows(entity):
    """The entity's fields, each with the body it is tried in."""
    yield from ((field, {}) for field in entity["fields"])
    for overlay, fields in entity.get("more", []):
        yield from ((field, overlay) for field in fields)


def cases(make):
    """A parameter for each row that `make` makes of each entity."""
    made = [(entity, *row) for entity in ENTITIES for row in make(entity)]
    return [pytest.param(*row, id=f"{kind(row[0])}-{'-'.join(short(part) for part in row[1:])}"[:150]) for row in made]


def counted(entity):
    COUNTS[kind(entity)] += 1


@pytest.mark.parametrize("entity, field, default", cases(lambda entity: [
    (name, default) for (name, default, _, _), overlay in rows(entity) if not overlay and default != MUST]))
def test_default(kong, entity, field, default):
    counted(entity)
    base = kong.body(entity)
    base.pop(field, None) if default is not AUTO else None
    if field in entity["base"] and default in (NONE, AUTO):
        return
    shown = kong.create(entity, base)
    assert field in shown
    if default == AUTO:
        assert shown[field] is not None or field in ("config", "pem")
    else:
        assert shown[field] == default


@pytest.mark.parametrize("entity, field", cases(lambda entity: [
    (name,) for (name, default, _, _), overlay in rows(entity) if default == MUST]))
def test_required(kong, entity, field):
    counted(entity)
    body = kong.body(entity)
    body.pop(field)
    kong.refused(entity, body, [], {field: "required field missing"})


@pytest.mark.parametrize("entity, field, value, overlay", cases(lambda entity: [
    (name, value, overlay) for (name, _, values, _), overlay in rows(entity) for value in values]))
def test_accepted(kong, entity, field, value, overlay):
    counted(entity)
    shown = kong.create(entity, kong.body(entity, overlay, {field: value}))
    if isinstance(value, dict):
        assert value.items() <= shown[field].items()
    elif field == "snis" and kind(entity) == "certificates":
        assert shown[field] == sorted(value)
    else:
        assert shown[field] == value


@pytest.mark.parametrize("entity, field, value, message, overlay", cases(lambda entity: [
    (name, value, message, overlay) for (name, _, _, bad), overlay in rows(entity) for value, message in bad]))
def test_refused(kong, entity, field, value, message, overlay):
    counted(entity)
    kong.refused(entity, kong.body(entity, overlay, {field: value}), [], {field: message})


@pytest.mark.parametrize("entity, option, value, message", cases(lambda entity: entity.get("options", [])))
def test_option(kong, entity, option, value, message):
    counted(entity)
    kong.parent(entity)
    status, answer, _ = kong.call("POST", f"/{entity['path']}", kong.body(entity, {option: value}))
    assert (status, answer) == (400, {
        "code": 11, "name": "invalid options", "options": {option: message},
        "message": f"invalid option ({option}: {message})"})


@pytest.mark.parametrize("entity, body, messages, fields", cases(lambda entity: entity["rules"]))
def test_rule(kong, entity, body, messages, fields):
    counted(entity)
    base = kong.body(entity, body)
    if "url" in body:
        base.pop("host")
    kong.refused(entity, base, messages, fields)


@pytest.mark.parametrize("entity, body, shown", cases(lambda entity: entity["shown"]))
def test_shown(kong, entity, body, shown):
    counted(entity)
    base = kong.body(entity, body)
    if "url" in body:
        base.pop("host")
    made = kong.create(entity, base)
    assert {name: made[name] for name in shown} == shown


@pytest.mark.parametrize("entity, field, value", cases(lambda entity: entity["unique"]))
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_unique(kong, entity, field, value, method):
    counted(entity)
    kong.parent(entity)
    path = entity["path"]
    others = {"consumers": {"username": None, "custom_id": None}, "keys": {"kid": str(uuid.uuid4())}}.get(kind(entity), {})
    status, first, _ = kong.call("POST", f"/{path}", kong.body(entity, others, {field: value}))
    assert status == 201, first
    others = {"consumers": {"username": None, "custom_id": None}}.get(kind(entity), {})
    other = None
    if method == "PATCH":
        status, other, _ = kong.call("POST", f"/{path}", kong.body(entity))
        assert status == 201, other
    target = {"POST": path, "PUT": f"{path}/{uuid.uuid4()}", "PATCH": f"{path}/{other and other['id']}"}[method]
    body = {field: value} if method == "PATCH" else kong.body(entity, others, {field: value})
    try:
        status, answer, _ = kong.call(method, f"/{target}", body)
        assert (status, answer) == (409, {
            "code": 5, "name": "unique constraint violation", "fields": {field: value},
            "message": f"UNIQUE violation detected on '{{{field}=\"{value}\"}}'"})
    finally:
        for made in filter(None, (first, other)):
            kong.call("DELETE", f"/{single(entity)}/{made['id']}")


@pytest.mark.parametrize("entity, body, field, to", cases(lambda entity: entity["foreign"]))
def test_foreign(kong, entity, body, field, to):
    counted(entity)
    status, answer, _ = kong.call("POST", f"/{entity['path']}", kong.body(entity, body))
    assert (status, answer) == (400, {
        "code": 4, "name": "foreign key violation", "fields": {field: body[field]},
        "message": f"the foreign key '{{id=\"{body[field]['id']}\"}}' does not reference an existing '{to}' entity."})


@pytest.mark.parametrize("entity, body, field, key, value, to", cases(lambda entity: entity.get("unresolved", [])))
def test_unresolved(kong, entity, body, field, key, value, to):
    counted(entity)
    status, answer, _ = kong.call("POST", f"/{entity['path']}", kong.body(entity, body))
    words = f"the foreign key cannot be resolved with '{{{key}=\"{value}\"}}' for an existing '{to}' entity"
    assert (status, answer) == (400, {
        "code": 13, "name": "foreign keys unresolved", "fields": {field: {key: words}},
        "message": f"foreign key unresolved ({field}.{key}: {words})"})


def of(entities):
    return pytest.mark.parametrize("entity", [pytest.param(entity, id=kind(entity)) for entity in entities])


each = of(ENTITIES)


@each
def test_unknown_field(kong, entity):
    counted(entity)
    kong.refused(entity, kong.body(entity, {"nope": 1}), [], {"nope": UNKNOWN})


@each
def test_not_found(kong, entity):
    counted(entity)
    kong.parent(entity)
    for key in (str(uuid.uuid4()), "nobody"):
        for method, body in (("GET", None), ("PATCH", {"tags": ["x"]})):
            status, answer, _ = kong.call(method, f"/{entity['path']}/{key}", body)
            if kind(entity) == "certificates" and key == "nobody":
                assert (status, answer) == (404, {"message": "SNI not found"})
            elif kind(entity) == "ca_certificates" and key == "nobody":
                assert (status, answer) == (400, {
                    "code": 1, "name": "invalid primary key", "fields": {"id": "expected a valid UUID"},
                    "message": "invalid primary key: '{id=\"expected a valid UUID\"}'"})
            else:
                assert (status, answer) == (404, {"message": "Not found"}), method


@each
def test_a_deletion_of_nothing(kong, entity):
    counted(entity)
    kong.parent(entity)
    status, _, _ = kong.call("DELETE", f"/{entity['path']}/{uuid.uuid4()}")
    # Kong looks for what is below something else first.
    assert status == (404 if "parent" in entity else 204)


@each
def test_methods(kong, entity):
    counted(entity)
    kong.parent(entity)
    one = f"/{entity['path']}/{uuid.uuid4()}"
    for path, methods, allow in ((f"/{entity['path']}", ("PUT", "PATCH", "DELETE"), LISTS), (one, ("POST",), ONES)):
        for method in methods:
            status, answer, headers = kong.call(method, path, {} if method != "DELETE" else None)
            assert (status, answer) == (405, {"message": "Method not allowed"}), (method, path)
            assert headers["Allow"] == allow
        status, answer, headers = kong.call("OPTIONS", path)
        assert (status, answer, headers["Allow"]) == (204, None, allow)


@each
def test_paging(kong, entity):
    counted(entity)
    kong.parent(entity)
    path = f"/{entity['path']}"
    invalid = {"code": 9, "name": "invalid size"}
    whole = invalid | {"message": "size must be an integer between 1 and 1000"}
    for query, answer in (
            ("size=x", invalid | {"message": "size must be a number"}), ("size=0", whole), ("size=1001", whole),
            ("size=1.5", whole),
            ("offset=x", {"code": 7, "name": "invalid offset",
                          "message": "'x' is not a valid offset: bad base64 encoding"})):
        status, said, _ = kong.call("GET", f"{path}?{query}")
        assert (status, said) == (400, answer), query
    status, said, _ = kong.call("GET", f"{path}?size=1000")
    assert status == 200 and isinstance(said["data"], list) and said["next"] is None and "offset" not in said


@each
def test_tags(kong, entity):
    counted(entity)
    kong.parent(entity)
    path = f"/{entity['path']}"
    if "parent" in entity:
        return
    for query, words in (("tags=", "cannot be null"), ("tags=a,b/c", "invalid filter syntax"),
                         ("tags=a,b,c,d,e,f", "cannot query more than 5 tags")):
        status, said, _ = kong.call("GET", f"{path}?{query}")
        assert (status, said) == (400, {"code": 11, "name": "invalid options", "options": {"tags": words},
                                        "message": f"invalid option (tags: {words})"}), query
    assert kong.call("GET", f"{path}?tags=no-such-tag")[1] == {"data": [], "next": None}


@each
def test_bodies_that_cannot_be_read(kong, entity):
    counted(entity)
    kong.parent(entity)
    path = f"/{entity['path']}"
    for content_type, body, status, words in (
            ("application/json", '{"a": "b"', 400, "Cannot parse JSON body"),
            ("text/plain", "a=b", 415, "Unsupported media type")):
        answer = request(kong.port, "POST", path, headers={"Content-Type": content_type}, body=body)
        assert (answer.status, json.loads(answer.text)) == (status, {"message": words})


@each
def test_primary_key(kong, entity):
    counted(entity)
    kong.parent(entity)
    taken = str(uuid.uuid4())
    status, made, _ = kong.call("POST", f"/{entity['path']}", kong.body(entity, {"id": taken}))
    assert (status, made["id"]) == (201, taken), made
    unique = {name: f"other.{name}" for name, _ in entity["unique"]}
    if kind(entity) in ("targets",):
        unique = {"target": "10.0.0.9:9"}
    if kind(entity) == "plugins":
        unique = {"name": "key-auth"}
    if kind(entity) == "ca_certificates":
        unique = {"cert": ca_pem()}
    if kind(entity) == "keys":
        unique = {"kid": "other"}
    if kind(entity) == "vaults":
        unique = {"prefix": "other"}
    try:
        status, answer, _ = kong.call("POST", f"/{entity['path']}", kong.body(entity, {"id": taken}, unique))
        assert (status, answer) == (400, {
            "code": 3, "name": "primary key violation", "fields": {"id": taken},
            "message": f"primary key violation on key '{{id=\"{taken}\"}}'"})
    finally:
        kong.call("DELETE", f"/{single(entity)}/{taken}")


@each
def test_the_schema_names_every_field(kong, entity):
    counted(entity)
    status, schema, _ = kong.call("GET", f"/schemas/{kind(entity)}")
    assert status == 200
    fields = {name: field for item in schema["fields"] for name, field in item.items()}
    for (name, default, _, _), overlay in rows(entity):
        if overlay:
            continue
        assert name in fields, name
        if default == MUST:
            assert fields[name]["required"] is True
        elif default not in (NONE, AUTO) and not isinstance(default, dict) and default != []:
            assert fields[name]["default"] == default, name


@each
def test_validation_without_effect(kong, entity):
    counted(entity)
    body = kong.body(entity)
    if kind(entity) == "targets":
        body["upstream"] = {"id": str(uuid.uuid4())}
    if kind(entity) == "keyauth_credentials":
        body["consumer"] = {"id": str(uuid.uuid4())}
    status, answer, _ = kong.call("POST", f"/schemas/{kind(entity)}/validate", body)
    assert (status, answer) == (200, {"message": "schema validation successful"})
    status, answer, _ = kong.call("POST", f"/schemas/{kind(entity)}/validate", body | {"nope": 1})
    assert (status, answer) == (400, {"code": 2, "name": "schema violation", "fields": {"nope": UNKNOWN},
                                      "message": "schema violation (nope: unknown field)"})


def test_the_table_is_as_large_as_it_is_said_to_be(request):
    """COMPATIBILITY.md says how many cases there are of each kind; this is where the figures come from."""
    mine = [item for item in request.session.items if item.fspath == request.node.fspath]
    assert len(mine) >= 400 or len(request.session.items) < 400, len(mine)
