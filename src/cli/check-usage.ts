export const checkUsage = `Usage: grpc-weir check [<file>...] [options]

Checks documents of policies: what a weir would refuse, and what is legal and unwise.

Options:
  --format text|json        how findings are printed (default text)
  --service-config <file>   a gRPC service config that clients are given: finds retries in both
  --descriptors <file>      a serialized FileDescriptorSet (buf build -o): checks the policies in schemas, and compares
  --help                    shows this

The exit code is 0 where nothing was found, 1 where something was, and 2 for wrong arguments.
`;
