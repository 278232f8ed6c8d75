"""Write proto/protos, and the table of all RPCs, from the descriptors that the PyPI package `temporalio` ships.

The package carries compiled descriptors (names, numbers, types), no comments; this prints them as
.proto text of our own. It knows nothing of Rust. `python proto/generate.py --check` compares instead of writing.
"""

import importlib
import pathlib
import pkgutil
import re
import sys

from google.protobuf import descriptor_pb2 as d

HERE = pathlib.Path(__file__).parent
OUT = HERE / "protos"
ROOTS = ["temporalio.api", "temporalio.bridge.proto"]
LEFT_OUT = ("temporal/api/cloud/", "temporal/api/protometa/", "google/api/", "protoc-gen-openapiv2/", "nexusannotations/")
RPCS = HERE / "src" / "gen" / "rpcs.rs"
SERVICES = [
    "temporalio.api.workflowservice.v1.service_pb2",
    "temporalio.api.operatorservice.v1.service_pb2",
    "temporalio.api.cloud.cloudservice.v1.service_pb2",
    "temporalio.api.testservice.v1.service_pb2",
    "temporalio.bridge.proto.health.v1.health_pb2",
]
# The package moves the health service to a name of its own; servers know it by this one.
RENAMED = {"temporal.grpc.health.v1.Health": "grpc.health.v1.Health"}
# What these do is done to a namespace. Elsewhere in their services it is one argument among others, and no header.
WORKFLOW_SERVICE = "temporal.api.workflowservice.v1.WorkflowService"
ON_NAMESPACES = {"DeleteNamespace", "GetNamespace", "UpdateNamespace"}
# Metrics of calls name the task queue of the request, but not of these; dashboards know them without.
WITHOUT_QUEUE = {"ShutdownWorker", "StartActivityExecution"}
F = d.FieldDescriptorProto
SCALARS = {v: k.removeprefix("TYPE_").lower() for k, v in F.Type.items()}


def files():
    """Every file descriptor of the package, by path, with what they import."""
    found = {}

    def add(fd):
        if fd.name in found or fd.name.startswith(LEFT_OUT):
            return
        found[fd.name] = fd
        for dep in fd.dependencies:
            add(dep)

    for root in ROOTS:
        package = importlib.import_module(root)
        for module in pkgutil.walk_packages(package.__path__, root + "."):
            if module.name.endswith("_pb2") and ".cloud." not in module.name:
                add(importlib.import_module(module.name).DESCRIPTOR)
    add(importlib.import_module("google.rpc.status_pb2").DESCRIPTOR)
    return dict(sorted(found.items()))


class Printer:
    def __init__(self, proto):
        self.proto, self.lines = proto, []

    def out(self, depth, text):
        self.lines.append("  " * depth + text)

    def type_of(self, field):
        if field.type in (F.TYPE_MESSAGE, F.TYPE_ENUM):
            return field.type_name
        return SCALARS[field.type]

    def field(self, depth, f, maps, in_oneof=False):
        options = []
        if f.options.deprecated:
            options.append("deprecated = true")
        tail = f" [{', '.join(options)}]" if options else ""
        entry = maps.get(f.type_name.rsplit(".", 1)[-1]) if f.type == F.TYPE_MESSAGE else None
        if entry is not None and f.label == F.LABEL_REPEATED:
            kind, label = f"map<{self.type_of(entry.field[0])}, {self.type_of(entry.field[1])}>", ""
        else:
            kind = self.type_of(f)
            label = "repeated " if f.label == F.LABEL_REPEATED else ""
            if f.proto3_optional and not in_oneof:
                label = "optional "
        self.out(depth, f"{label}{kind} {f.name} = {f.number}{tail};")

    def message(self, depth, m):
        self.out(depth, f"message {m.name} {{")
        maps = {n.name: n for n in m.nested_type if n.options.map_entry}
        for r in m.reserved_range:
            last = r.end - 1
            self.out(depth + 1, f"reserved {r.start};" if last == r.start else f"reserved {r.start} to {last};")
        for name in m.reserved_name:
            self.out(depth + 1, f'reserved "{name}";')
        for n in m.nested_type:
            if not n.options.map_entry:
                self.message(depth + 1, n)
        for e in m.enum_type:
            self.enum(depth + 1, e)
        opened = None
        for f in m.field:
            real = f.HasField("oneof_index") and not f.proto3_optional
            index = f.oneof_index if real else None
            if opened is not None and index != opened:
                self.out(depth + 1, "}")
                opened = None
            if real and opened is None:
                self.out(depth + 1, f"oneof {m.oneof_decl[index].name} {{")
                opened = index
            self.field(depth + (2 if real else 1), f, maps, in_oneof=real)
        if opened is not None:
            self.out(depth + 1, "}")
        self.out(depth, "}")

    def enum(self, depth, e):
        self.out(depth, f"enum {e.name} {{")
        if e.options.allow_alias:
            self.out(depth + 1, "option allow_alias = true;")
        for r in e.reserved_range:
            self.out(depth + 1, f"reserved {r.start} to {r.end};" if r.end != r.start else f"reserved {r.start};")
        for v in e.value:
            self.out(depth + 1, f"{v.name} = {v.number}{' [deprecated = true]' if v.options.deprecated else ''};")
        self.out(depth, "}")

    def service(self, s):
        self.out(0, f"service {s.name} {{")
        for m in s.method:
            a, b = ("stream " if m.client_streaming else ""), ("stream " if m.server_streaming else "")
            self.out(1, f"rpc {m.name}({a}{m.input_type}) returns ({b}{m.output_type});")
        self.out(0, "}")

    def file(self):
        p = self.proto
        assert p.syntax == "proto3", f"{p.name}: only proto3 is known here, not {p.syntax}"
        self.out(0, "// Written by proto/generate.py from the descriptors of the PyPI package temporalio. Do not edit.")
        self.out(0, 'syntax = "proto3";')
        self.out(0, f"package {p.package};")
        for dep in p.dependency:
            if not dep.startswith(LEFT_OUT):
                self.out(0, f'import "{dep}";')
        for e in p.enum_type:
            self.lines.append("")
            self.enum(0, e)
        for m in p.message_type:
            self.lines.append("")
            self.message(0, m)
        for s in p.service:
            self.lines.append("")
            self.service(s)
        return "\n".join(self.lines) + "\n"


def rpcs():
    """Every unary RPC, as the Rust table that proto/src/services.rs includes."""
    lines = ["// Written by proto/generate.py from the descriptors of the PyPI package temporalio. Do not edit.", "&["]
    for name in SERVICES:
        for service in importlib.import_module(name).DESCRIPTOR.services_by_name.values():
            full = RENAMED.get(service.full_name, service.full_name)
            lines.append(f'    ("{full}", &[')
            rows = []
            for m in service.methods:
                if m.client_streaming or m.server_streaming:
                    continue
                field = m.input_type.fields_by_name.get("namespace")
                named = field is not None and (full == WORKFLOW_SERVICE or m.name in ON_NAMESPACES)
                number = f"Some({field.number})" if named else "None"
                path, request = f"/{full}/{m.name}", m.input_type.name
                queue = [] if m.name in WITHOUT_QUEUE else task_queue(m.input_type)
                rows.append(
                    f'Rpc {{ name: "{snake(m.name)}", path: "{path}", request: "{request}", namespace: {number}, task_queue: &{queue} }}'
                )
            lines += [f"        {row}," for row in sorted(rows)]
            lines.append("    ]),")
    return "\n".join([*lines, "]"]) + "\n"


def task_queue(request):
    """The numbers of the fields that lead to the name of a request's task queue; none if it has no task queue."""
    if "operations" in request.fields_by_name:
        operations = request.fields_by_name["operations"]
        start = operations.message_type and operations.message_type.fields_by_name.get("start_workflow")
        return [operations.number, start.number, *task_queue(start.message_type)] if start else []
    field = request.fields_by_name.get("task_queue")
    if field is None:
        return []
    name = [field.message_type.fields_by_name["name"].number] if field.message_type else []
    return [field.number, *name]


def snake(name):
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()


def main():
    texts = {}
    for name, fd in files().items():
        if name.startswith("google/protobuf/"):
            continue  # well-known types come with the compiler
        proto = d.FileDescriptorProto()
        fd.CopyToProto(proto)
        texts[name] = Printer(proto).file()
    on_disk = {str(p.relative_to(OUT)): p.read_text() for p in OUT.rglob("*.proto")}
    if "--check" in sys.argv:
        differ = sorted(n for n in texts.keys() | on_disk.keys() if texts.get(n) != on_disk.get(n))
        if differ:
            sys.exit(f"proto/protos is out of step with the descriptors, run proto/generate.py: {', '.join(differ)}")
        if RPCS.read_text() != rpcs():
            sys.exit(f"{RPCS} is out of step with the descriptors, run proto/generate.py")
        print(f"{len(texts)} files in step")
        return
    for stale in on_disk.keys() - texts.keys():
        (OUT / stale).unlink()
    for name, text in texts.items():
        path = OUT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    RPCS.write_text(rpcs())
    print(f"wrote {len(texts)} files, and {RPCS.name}")


if __name__ == "__main__":
    main()
