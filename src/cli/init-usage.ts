import { schemaUsage } from "./check-usage.js";

export const initUsage = `Usage: grpc-weir init [<file>] [options]

Writes a document of policies to begin with (default policies.yaml). All in it observes: it decides and counts, and changes
no call. Comments say what to look at before a policy is enforced.

Options:
${schemaUsage}  --proto <path>            a .proto file, or a folder of them; may be given several times. Needs @grpc/proto-loader
  --force                   writes over a file that is there
  --help                    shows this

The exit code is 1 where the file is there already, and 2 for wrong arguments and schemas that cannot be read.
`;
