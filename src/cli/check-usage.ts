/** Of the options of commands that read schemas. */
export const schemaUsage = `  --descriptors <file>      a serialized FileDescriptorSet (buf build -o)
  --reflect <host:port>     the schemas of a running server, by gRPC server reflection
  --tls                     connects to it with TLS
  --ca <file>               the same, with the certificates of the authorities, in PEM
  --header "<name>: <text>" sends metadata to it; may be given several times
`;

export const checkUsage = `Usage: grpc-weir check [<file>...] [options]
       grpc-weir check --diff <old file> <new file> [--format text|json]

Checks documents of policies: what a weir would refuse, and what is legal and unwise.

Options:
  --format text|json        how findings are printed (default text)
  --service-config <file>   a gRPC service config that clients are given: finds retries in both
${schemaUsage}  --diff                    says what the second file changes, and what that does
  --help                    shows this

With schemas, the policies in them are checked too, and documents are compared with them.

The exit code is 0 where nothing was found or changes, 1 where something was, and 2 for wrong arguments.
`;
