import { resolve as resolvePath } from 'node:path';
import { Command, Option } from 'commander';
import { CodedError, messageOf } from '../core/index.ts';
import { mediaFaultKinds } from '../faults/index.ts';
import { ControlClient } from '../serve/index.ts';
import type { CommandContext } from './command.ts';
import { EXIT_CLEAN } from './exit-codes.ts';
import { formatTable, type Output, plainText } from './output.ts';
import { misuse } from './scenarios.ts';
import { parseCount, parseTimeMs } from './units.ts';

/** A command for the control socket, ready to be sent. */
interface ControlRequest {
  readonly control: string;
  readonly json: boolean;
  readonly command: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** The server said no. */
const EXIT_REFUSED = 1;

const CTL_HELP = `
A cut, step by step:
  powercut ctl --control ctl.sock cut                      now; or at the 100th write from now on:
  powercut ctl --control ctl.sock cut --nth 100 --of write
  powercut ctl --control ctl.sock wait                     until the power is off
  powercut ctl --control ctl.sock resolve --seed 7         what the cut left: also --lost, --kept, --token T
  powercut ctl --control ctl.sock save after.img           look at what is left, if you like
  powercut ctl --control ctl.sock on                       the disk comes back; clients connect again

Faults that last, and recording:
  powercut ctl --control ctl.sock latency --read 5ms --flush 20ms
  powercut ctl --control ctl.sock latency                  none any more
  powercut ctl --control ctl.sock fault lying-flush        clear-faults ends it
  powercut ctl --control ctl.sock fault hung-request --of flush --nth 3 --times 1
  powercut ctl --control ctl.sock trace-start run.trace
  powercut ctl --control ctl.sock mark begin put-1         for the scenario that explores the trace later
  powercut ctl --control ctl.sock trace-stop

Each command has a --help of its own. docs/serve.md describes the socket, for programs.

Exit codes: 0 done, 1 the server refused, 2 misuse or no server.
`;

/** `powercut ctl`. */
export function ctlCommand({ output, exit }: CommandContext): Command {
  const ctl = new Command('ctl')
    .description('cut the power of a served disk, decide what is left, bring it back; latency, statistics, traces')
    .requiredOption('--control <path>', 'the control socket, as "powercut serve" was given it')
    .option('--json', 'the answer as one object on standard output')
    .addHelpText('after', CTL_HELP);
  const send = async (command: string, fields: Readonly<Record<string, unknown>> = {}): Promise<void> => {
    const { control, json = false } = ctl.opts<{ control: string; json?: boolean }>();
    exit(await runCtl({ control, json, command, fields }, output));
  };
  for (const command of [...powerCommands(send), ...otherCommands(send)]) ctl.addCommand(command);
  return ctl;
}

type Send = (command: string, fields?: Readonly<Record<string, unknown>>) => Promise<void>;

function powerCommands(send: Send): Command[] {
  const cut = new Command('cut')
    .description('the power fails: now, or, with any option, at an operation to come')
    .option('--nth <n>', 'at the nth matching operation from now on; default 1', parseCount(1))
    .addOption(operationOption('which operations match; default any'))
    .addOption(
      new Option(
        '--when <when>',
        'before the operation reaches the disk, or during it (default): what it writes is there, not durable',
      ).choices(['before', 'during']),
    )
    .option('--first-sector <n>', 'only operations that touch sectors from this one on', parseCount(0))
    .option('--last-sector <n>', 'and up to this one; default the first', parseCount(0))
    .action((flags) => send('cut', flags));
  const cancel = new Command('cancel-cut')
    .description('the cut that was scheduled does not come')
    .action(() => send('cancel-cut'));
  const resolve = withOutcome(
    new Command('resolve').description('decide what the cut left of the writes that were not durable'),
  ).action((flags) => send('resolve', { outcome: outcomeOf(flags, true) }));
  const on = withOutcome(
    new Command('on').description('the power comes back; the cut has to be resolved, before or with this'),
  ).action((flags) => {
    const outcome = outcomeOf(flags, false);
    return send('on', outcome === undefined ? {} : { outcome });
  });
  const wait = new Command('wait')
    .description('until the power is off, or on')
    .addOption(new Option('--power <state>', 'what to wait for; default off').choices(['on', 'off']))
    .option('--timeout <time>', 'no longer than this: 30s, 5m', parseTimeMs)
    .action(({ power, timeout }) =>
      send('wait', { ...(power && { power }), ...(timeout && { timeoutMs: Math.ceil(timeout) }) }),
    );
  return [cut, cancel, resolve, on, wait];
}

function operationOption(description: string): Option {
  return new Option('--of <kind>', description).choices(['any', 'read', 'write', 'flush', 'discard', 'writeZeroes']);
}

function otherCommands(send: Send): Command[] {
  const latency = new Command('latency')
    .description('hold back the success of operations so long; kinds that are not named are not held back')
    .option('--read <time>', 'such as 5ms', parseTimeMs)
    .option('--write <time>', '', parseTimeMs)
    .option('--flush <time>', '', parseTimeMs)
    .option('--discard <time>', '', parseTimeMs)
    .option('--write-zeroes <time>', '', parseTimeMs)
    .action((flags) => send('latency', flags));
  const fault = new Command('fault')
    .description('the medium does something wrong from now on: docs/serve.md tells the kinds apart')
    .argument('<kind>', mediaFaultKinds.join(', '))
    .option('--first-sector <n>', 'only what touches sectors from this one on', parseCount(0))
    .option('--last-sector <n>', 'and up to this one; default the first', parseCount(0))
    .option('--nth <n>', 'from the nth matching operation on; default 1', parseCount(1))
    .option('--times <n>', 'so many operations; default: until it is cleared', parseCount(1))
    .addOption(operationOption('of hung-request and latency-spike: which operations; default any'))
    .option('--delay <time>', 'of latency-spike: how long, such as 2s', parseTimeMs)
    .option('--bit <n>', 'of bit-rot: which bit of the sector; default 0', parseCount(0))
    .option('--to-sector <n>', 'of misdirected-*: where they go; default one bit of the address off', parseCount(0))
    .option('--written-sectors <n>', 'of write-error: sectors that are written all the same; default 0', parseCount(0))
    .action((kind: string, { delay, ...flags }) =>
      send('fault', { kind, ...flags, ...(delay !== undefined && { delayMs: delay }) }),
    );
  const clear = new Command('clear-faults')
    .description('the medium works again')
    .argument('[kind]', 'only these')
    .action((kind?: string) => send('clear-faults', kind === undefined ? {} : { kind }));
  const path = (name: string, description: string, fileDescription: string): Command =>
    new Command(name)
      .description(description)
      .argument('<file>', fileDescription)
      .action((file: string) => send(name, { path: resolvePath(file) }));
  const mark = new Command('mark')
    .description('put an event of your own into the trace that is being recorded')
    .argument('<event>', 'begin, acknowledge or fail')
    .argument('<name>', 'of the operation')
    .action((event: string, name: string) => send('mark', { mark: event, name }));
  return [
    new Command('status').description('power, faults, statistics').action(() => send('status')),
    latency,
    fault,
    clear,
    path('save', 'save what the disk holds as an image', 'a file that does not exist'),
    path('trace-start', 'record writes, flushes and acknowledgements from now on', 'a file that does not exist'),
    new Command('trace-stop').description('end the recording').action(() => send('trace-stop')),
    mark,
    new Command('stop').description('stop the server; the disk is shut down in order').action(() => send('stop')),
  ];
}

interface OutcomeFlags {
  readonly lost?: boolean;
  readonly kept?: boolean;
  readonly seed?: number;
  readonly token?: string;
}

function withOutcome(command: Command): Command {
  return command
    .option('--lost', 'nothing of it')
    .option('--kept', 'all of it')
    .option('--seed <n>', 'of each sector a random version', parseCount(0))
    .option('--token <token>', 'what an earlier resolution of the same cut decided');
}

function outcomeOf(flags: OutcomeFlags, required: boolean): unknown {
  const { lost, kept, seed, token } = flags;
  const given = [
    ...(lost ? ['all-lost'] : []),
    ...(kept ? ['all-kept'] : []),
    ...(seed === undefined ? [] : [{ seed }]),
    ...(token === undefined ? [] : [{ token }]),
  ];
  if (given.length > 1 || (required && given.length === 0))
    throw misuse('expected one of --lost, --kept, --seed N, --token T: what the cut left');
  return given[0];
}

/** Sends a command to the control socket, and prints its answer. @returns the exit code */
async function runCtl(request: ControlRequest, output: Output): Promise<number> {
  let client: ControlClient;
  try {
    client = await ControlClient.connect(request.control);
  } catch (error) {
    throw misuse(`--control: ${messageOf(error)}`, error);
  }
  try {
    const result = await client.send(request.command, request.fields);
    if (request.json) output.out(`${JSON.stringify(result)}\n`);
    else output.out(table(result));
    return EXIT_CLEAN;
  } catch (error) {
    if (!(error instanceof CodedError)) throw error;
    output.err(`powercut: ${plainText(error.message)}\n`);
    return EXIT_REFUSED;
  } finally {
    client.close();
  }
}

/** An answer as lines of names and values; what is nested gets names with dots. */
function table(result: Readonly<Record<string, unknown>>): string {
  const rows = flatten('', result).map(([name, value]) => [plainText(name), plainText(String(value))]);
  if (rows.length === 0) return 'done\n';
  return `${formatTable(['what', 'value'], rows).slice(1).join('\n')}\n`;
}

function flatten(prefix: string, value: Readonly<Record<string, unknown>>): [string, unknown][] {
  return Object.entries(value).flatMap(([name, inner]): [string, unknown][] => {
    if (typeof inner === 'object' && inner !== null)
      return flatten(`${prefix}${name}.`, inner as Record<string, unknown>);
    return inner === undefined || inner === null ? [[prefix + name, '-']] : [[prefix + name, inner]];
  });
}
