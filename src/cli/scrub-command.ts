import { Command } from 'commander';
import { CodedError, messageOf } from '../core/index.ts';
import { MAX_PAYLOAD_BYTES, open, type ScrubFinding, type ScrubReport } from '../statefs/index.ts';
import type { CommandContext } from './command.ts';
import { EXIT_CLEAN, EXIT_MISUSE, EXIT_VIOLATION } from './exit-codes.ts';
import { type Output, paint } from './output.ts';
import { StatusLine } from './status-line.ts';
import { withStoreImage } from './store-image.ts';
import { formatBytes } from './units.ts';

interface ScrubFlags {
  readonly repair?: boolean;
  readonly json?: boolean;
}

/** `mendable`, `mended`: all that was found can be, was, put right. `lost`: something stays that no scrub puts right. */
type ScrubVerdict = 'clean' | 'mendable' | 'mended' | 'lost' | 'no-store';

const HELP = `
Reads everything that a store is made of, and verifies it: both superblock copies, every frame of the log, the SHA-256 of every
live value. It does what a store in use does by scrubStep; fsck looks at the image from outside, and also tells residue of a
power cut. Without --repair the image is opened read-only. With it, superblock copies are written anew and all that is live is
copied away from damage in the log; no value is deleted. docs/storage/scrub.md has all of it.

Exit codes: 0 clean; 1 mended, or mendable; 2 something is lost, no statefs image, or misuse.

Examples:
  powercut scrub state.img
  powercut scrub state.img --repair
  powercut scrub state.img --json
`;

/** Bytes of a step: between two of them it says how far it is. */
const STEP_BYTES = 4 * 1024 * 1024;

/** `powercut scrub`. */
export function scrubCommand({ output, exit }: CommandContext): Command {
  return new Command('scrub')
    .description('verify all of a statefs image, and write anew what can be proven right')
    .argument('<image>', 'a file, such as statefsd keeps')
    .option('--repair', 'put right what can be; never writes over what is committed')
    .option('--json', 'one object on standard output')
    .addHelpText('after', HELP)
    .action((image: string, flags: ScrubFlags) => exit(runScrub(image, flags, output)));
}

const EXIT_OF: Readonly<Record<ScrubVerdict, number>> = {
  clean: EXIT_CLEAN,
  mendable: EXIT_VIOLATION,
  mended: EXIT_VIOLATION,
  lost: EXIT_MISUSE,
  'no-store': EXIT_MISUSE,
};

function runScrub(image: string, flags: ScrubFlags, output: Output): number {
  const line = new StatusLine(output);
  const isRepair = flags.repair === true;
  const onProgress = (verifiedBytes: number): void =>
    line.update(() => `${image}: verified ${formatBytes(verifiedBytes)}`);
  let found: ScrubReport | CodedError;
  try {
    found = withStoreImage(image, !isRepair, (device) => {
      const store = orError(() =>
        open(device, { readOnly: !isRepair, acceptStale: true, budgets: { payloadBytes: MAX_PAYLOAD_BYTES } }),
      );
      if (store instanceof CodedError) return store;
      let report: ScrubReport | undefined;
      while (report === undefined) {
        report = store.scrubStep(STEP_BYTES);
        onProgress(store.stats().scrubbedBytes);
      }
      store.close();
      return report;
    });
  } finally {
    line.end();
  }
  const verdict = verdictOf(found, isRepair);
  if (flags.json) {
    const rest = found instanceof CodedError ? { error: { code: found.code, message: found.message } } : found;
    output.out(`${JSON.stringify({ image, verdict, repair: isRepair, ...rest })}\n`);
  } else print(image, found, verdict, output);
  return EXIT_OF[verdict];
}

/** What can't be opened as a store is a verdict; what the file system says is not. */
function orError<T>(run: () => T): T | CodedError {
  try {
    return run();
  } catch (error) {
    if (error instanceof CodedError) return error;
    throw error;
  }
}

function verdictOf(found: ScrubReport | CodedError, isRepair: boolean): ScrubVerdict {
  if (found instanceof CodedError) return found.code === 'EINVAL' ? 'no-store' : 'lost';
  if (found.damaged === 0) return 'clean';
  if (isRepair) return found.damaged === found.mended ? 'mended' : 'lost';
  return found.findings.every(({ lost }) => lost === 'nothing') ? 'mendable' : 'lost';
}

function print(image: string, found: ScrubReport | CodedError, verdict: ScrubVerdict, output: Output): void {
  if (found instanceof CodedError) {
    output.out(`${paint(output, 'red', verdict === 'lost' ? 'lost' : 'no statefs image')}: ${messageOf(found)}\n`);
    return;
  }
  const { verifiedValues, verifiedBytes, damaged, mended, findings } = found;
  output.out(`${image}: ${verifiedValues} values verified, ${verifiedBytes} bytes read\n`);
  for (const finding of findings) output.out(`\n${describe(finding, output)}\n`);
  if (damaged > findings.length) output.out(`\nand ${damaged - findings.length} more\n`);
  output.out(`\n${verdictLine(verdict, damaged, mended, output)}\n`);
}

function describe(finding: ScrubFinding, output: Output): string {
  const { part, sector, offsetBytes, keys, what, lost, mended } = finding;
  const colour = lost === 'nothing' ? 'yellow' : 'red';
  return [
    `${paint(output, colour, 'DAMAGE')} ${part} at sector ${sector} (byte ${offsetBytes})`,
    `  ${what}`,
    ...(keys.length > 0 ? [`  keys:   ${keys.join(', ')}`] : []),
    `  lost:   ${lost}`,
    ...(mended === undefined ? [] : [`  mended: ${mended}`]),
  ].join('\n');
}

function verdictLine(verdict: ScrubVerdict, damaged: number, mended: number, output: Output): string {
  if (verdict === 'clean') return `${paint(output, 'green', 'clean')}: everything verifies`;
  if (verdict === 'mended') return `${paint(output, 'yellow', 'mended')}: ${damaged} found, all of it put right`;
  if (verdict === 'mendable')
    return `${paint(output, 'yellow', 'mendable')}: ${damaged} found; --repair puts all of it right`;
  return `${paint(output, 'red', 'lost')}: ${damaged} found, ${mended} put right; put the keys again, or restore a backup`;
}
