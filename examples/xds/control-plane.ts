import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import {
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServiceDefinition,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

/** What a client of xDS asks for, or acknowledges. */
interface DiscoveryRequest {
  readonly type_url: string;
  readonly resource_names: readonly string[];
  readonly response_nonce: string;
  readonly error_detail: { readonly message: string } | null;
}

/** The resources that the control plane gives out. */
export interface Mesh {
  /** Ports of the servers of a cluster. */
  readonly clusters: Readonly<Record<string, readonly number[]>>;
  /** The cluster to which the route leads. */
  readonly to: string;
  /** The retry policy of the route, in the fields of `envoy.config.route.v3.RetryPolicy`. */
  readonly retryPolicy?: object | undefined;
  /** How long a call may take by the route, in milliseconds. */
  readonly maxMs?: number | undefined;
  /** What else each cluster has, in the fields of `envoy.config.cluster.v3.Cluster`. */
  readonly cluster?: object | undefined;
  /** Ports on which servers listen as the control plane says. */
  readonly listeners?: readonly number[];
}

const require = createRequire(import.meta.url);
const deps = join(dirname(require.resolve("@grpc/grpc-js-xds/package.json")), "deps");
const definition = loadSync(
  [
    "envoy/service/discovery/v3/ads.proto",
    "envoy/config/listener/v3/listener.proto",
    "envoy/config/route/v3/route.proto",
    "envoy/config/cluster/v3/cluster.proto",
    "envoy/config/endpoint/v3/endpoint.proto",
    "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto",
    "envoy/extensions/filters/http/router/v3/router.proto",
  ],
  {
    keepCase: true,
    defaults: true,
    oneofs: true,
    enums: String,
    longs: String,
    includeDirs: ["envoy-api", "xds", "googleapis", "protoc-gen-validate"].map((each) =>
      join(deps, each),
    ),
  },
);

const typeUrl = (name: string) => `type.googleapis.com/envoy.${name}`;
const listenerType = typeUrl("config.listener.v3.Listener");
const routeType = typeUrl("config.route.v3.RouteConfiguration");
const clusterType = typeUrl("config.cluster.v3.Cluster");
const endpointType = typeUrl("config.endpoint.v3.ClusterLoadAssignment");
const ads = { ads: {}, resource_api_version: "V3" };

const routerFilter = {
  name: "router",
  typed_config: { "@type": typeUrl("extensions.filters.http.router.v3.Router") },
};
const connectionManager = typeUrl(
  "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
);

/** How a server listens that serves all methods itself. */
function serverListener(port: number): object {
  const routes = [{ match: { prefix: "" }, non_forwarding_action: {} }];
  const manager = {
    "@type": connectionManager,
    route_config: { name: "all", virtual_hosts: [{ name: "all", domains: ["*"], routes }] },
    http_filters: [routerFilter],
  };
  return {
    "@type": listenerType,
    name: `server/127.0.0.1:${port}`,
    address: { socket_address: { address: "127.0.0.1", port_value: port } },
    default_filter_chain: { name: "all", filters: [{ name: "http", typed_config: manager }] },
  };
}

function resourcesOf(mesh: Mesh, type: string): readonly object[] {
  switch (type) {
    case listenerType:
      return [
        {
          "@type": listenerType,
          name: "shop",
          api_listener: {
            api_listener: {
              "@type": connectionManager,
              rds: { config_source: ads, route_config_name: "route" },
              http_filters: [routerFilter],
            },
          },
        },
        ...(mesh.listeners ?? []).map(serverListener),
      ];
    case routeType: {
      const maxMs = mesh.maxMs;
      const route = {
        cluster: mesh.to,
        ...(mesh.retryPolicy === undefined ? {} : { retry_policy: mesh.retryPolicy }),
        ...(maxMs === undefined
          ? {}
          : { max_stream_duration: { max_stream_duration: { nanos: maxMs * 1e6 } } }),
      };
      const hosts = [{ name: "shop", domains: ["*"], routes: [{ match: { prefix: "" }, route }] }];
      return [{ "@type": routeType, name: "route", virtual_hosts: hosts }];
    }
    case clusterType:
      return Object.keys(mesh.clusters).map((name) => ({
        "@type": clusterType,
        name,
        type: "EDS",
        eds_cluster_config: { eds_config: ads },
        lb_policy: "ROUND_ROBIN",
        ...mesh.cluster,
      }));
    case endpointType:
      return Object.entries(mesh.clusters).map(([name, ports]) => ({
        "@type": endpointType,
        cluster_name: name,
        endpoints: [
          {
            locality: { region: "here" },
            load_balancing_weight: { value: 1 },
            lb_endpoints: ports.map((port) => ({
              endpoint: { address: { socket_address: { address: "127.0.0.1", port_value: port } } },
            })),
          },
        ],
      }));
    default:
      return [];
  }
}

/** A control plane for xDS clients of this process. */
export async function controlPlane(first: Mesh) {
  let mesh = first;
  let version = 1;
  /** What clients have refused. */
  const refused: string[] = [];
  const streams = new Map<ServerDuplexStream<DiscoveryRequest, object>, Set<string>>();
  const send = (stream: ServerDuplexStream<DiscoveryRequest, object>, type: string) =>
    stream.write({
      version_info: String(version),
      nonce: `${version} ${type}`,
      type_url: type,
      resources: resourcesOf(mesh, type),
    });
  const name = "envoy.service.discovery.v3.AggregatedDiscoveryService";
  const service = definition[name] as ServiceDefinition;
  const server = new Server();
  server.addService(service, {
    StreamAggregatedResources: (stream: ServerDuplexStream<DiscoveryRequest, object>) => {
      const types = new Set<string>();
      streams.set(stream, types);
      const asked = new Map<string, string>();
      stream.on("data", ({ type_url, resource_names, response_nonce, error_detail }) => {
        if (error_detail) refused.push(error_detail.message);
        types.add(type_url);
        const names = [...resource_names].sort((a, b) => a.localeCompare(b)).join();
        // An acknowledgement asks for nothing new.
        const known = asked.get(type_url) === names && response_nonce !== "";
        asked.set(type_url, names);
        if (!known) send(stream, type_url);
      });
      stream.on("end", () => stream.end());
      stream.on("error", () => {});
      stream.on("close", () => streams.delete(stream));
    },
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  return {
    refused,
    /** The bootstrap that leads clients here. */
    bootstrap: JSON.stringify({
      xds_servers: [
        {
          server_uri: `127.0.0.1:${port}`,
          channel_creds: [{ type: "insecure" }],
          server_features: ["xds_v3"],
        },
      ],
      node: { id: "test", locality: { region: "here" } },
      server_listener_resource_name_template: "server/%s",
    }),
    /** Gives all clients other resources. */
    change: (next: Partial<Mesh>) => {
      mesh = { ...mesh, ...next };
      version += 1;
      for (const [stream, types] of streams) for (const type of types) send(stream, type);
    },
    close: () => server.forceShutdown(),
  };
}
