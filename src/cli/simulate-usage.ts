/** Apart from the command, so that the usage of the program can be shown without loading the lab. */
export const simulateUsage = `Usage: grpc-weir simulate <file or incident> [options]
       grpc-weir simulate --list

Runs a scenario in virtual time, with and without policies: the interceptors of the toolkit are the real ones, and
clients, servers, network and users are models. No server is started, and nothing is called.

The file is a scenario, in JSON or as the default export of a module (.mjs, .js, or .ts where Node reads it).

Options:
  --policies <file>  the options of weir.client() and weir.server(), or a document of policies in YAML, as fileSource()
                     reads it (default those in the scenario, or the defaults)
  --compare <file>   other policies, in the same world with the same users
  --peer <name>      who else is compared, instead of bare: bare; retryPolicy; fixed limit; wrap; loop lag; weir.
                     May be given more than once
  --seed <n>         another seed is another run (default 1)
  --seeds <n>        runs with so many seeds (default 1)
  --html <file>      writes a report with plots over time, a page in a single file
  --json             prints all numbers
  --list             shows the incidents
  --help             shows this
`;
