// Loads each entry point by `require` and by `import`, and prints the exports that are not the same.
const entryPoints = {
  "grpc-weir": [require("grpc-weir"), import("grpc-weir")],
  "grpc-weir/client": [require("grpc-weir/client"), import("grpc-weir/client")],
  "grpc-weir/server": [require("grpc-weir/server"), import("grpc-weir/server")],
  "grpc-weir/config": [require("grpc-weir/config"), import("grpc-weir/config")],
  "grpc-weir/otel": [require("grpc-weir/otel"), import("grpc-weir/otel")],
  "grpc-weir/redis": [require("grpc-weir/redis"), import("grpc-weir/redis")],
  "grpc-weir/testing": [require("grpc-weir/testing"), import("grpc-weir/testing")],
  "grpc-weir/viewer": [require("grpc-weir/viewer"), import("grpc-weir/viewer")],
};

async function differences() {
  const found = [];
  for (const [name, [required, imported]] of Object.entries(entryPoints)) {
    const exported = Object.entries(await imported).filter(
      ([key]) => key !== "default" && key !== "module.exports",
    );
    if (exported.length === 0) found.push(`${name} is empty`);
    for (const [key, value] of exported) {
      if (required[key] !== value) found.push(`${name}: ${key}`);
    }
  }
  return found;
}

void differences().then((found) =>
  console.log(JSON.stringify({ entryPoints: Object.keys(entryPoints), differences: found })),
);
