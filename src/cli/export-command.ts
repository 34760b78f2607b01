import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import { Command } from 'commander';
import type { BlockDevice } from '../blockdev/index.ts';
import { CodedError, messageOf, toHex } from '../core/index.ts';
import { type ExportSummary, exportStore, open } from '../statefs/index.ts';
import type { CommandContext } from './command.ts';
import { EXIT_CLEAN, EXIT_VIOLATION } from './exit-codes.ts';
import { checkTarget, putInPlace } from './new-file.ts';
import { type Output, paint } from './output.ts';
import { misuse } from './scenarios.ts';
import { StatusLine } from './status-line.ts';
import { withStoreImage } from './store-image.ts';
import { countOf, formatBytes } from './units.ts';

interface ExportFlags {
  readonly partial?: boolean;
  readonly replace?: boolean;
  readonly json?: boolean;
}

interface Lost {
  readonly key: string;
  readonly what: string;
}

const HELP = `
The file depends on keys, values and their metadata alone: stores of equal contents give equal files, whatever their history.
Every value is verified. The image is opened read-only. The file appears once it is whole. docs/storage/export.md has its
format.

Exit codes: 0 exported; 1 exported with --partial, and something is missing; 2 damage, no statefs image, or misuse.

Examples:
  powercut export state.img state.sfx
  powercut export damaged.img rest.sfx --partial
  powercut import state.sfx other.img
`;

/** `powercut export`. */
export function exportCommand({ output, exit }: CommandContext): Command {
  return new Command('export')
    .description('write what a statefs image holds to one file')
    .argument('<image>', 'a file, such as statefsd keeps')
    .argument('<file>', 'what to write; must not exist')
    .option('--partial', 'leave out what is damaged, and say so')
    .option('--replace', 'write over the file if it exists')
    .option('--json', 'one object on standard output')
    .addHelpText('after', HELP)
    .action((image: string, file: string, flags: ExportFlags) => exit(runExport(image, file, flags, output)));
}

function runExport(image: string, file: string, flags: ExportFlags, output: Output): number {
  const replace = flags.replace === true;
  checkTarget(file, { replace, source: image });
  const line = new StatusLine(output);
  const lost: Lost[] = [];
  let summary: ExportSummary;
  try {
    summary = withStoreImage(image, true, (device) =>
      writeWhole(file, replace, (write) => {
        const chunks =
          flags.partial === true ? whatIsLeft(device, lost) : exportStore(open(device, { readOnly: true }));
        let bytes = 0;
        for (let next = chunks.next(); ; next = chunks.next()) {
          if (next.done === true) return next.value;
          write(next.value);
          bytes += next.value.length;
          line.update(() => `${file}: ${formatBytes(bytes)} written`);
        }
      }),
    );
  } finally {
    line.end();
  }
  print({ image, file, lost, summary }, flags, output);
  return lost.length === 0 ? EXIT_CLEAN : EXIT_VIOLATION;
}

/** Without values that do not verify, or that may be older than what was lost. */
function whatIsLeft(device: BlockDevice, lost: Lost[]): Generator<Uint8Array, ExportSummary> {
  // Which keys there may be is asked of a store that hides none.
  const keys = open(device, { readOnly: true, acceptStale: true }).list('', Number.MAX_SAFE_INTEGER);
  const onLost = (key: string, error: CodedError): void => void lost.push({ key, what: error.message });
  return exportStore(open(device, { readOnly: true }), { keys, onLost });
}

/** Writes a file that appears once it is whole and durable. */
function writeWhole<T>(file: string, replace: boolean, run: (write: (chunk: Uint8Array) => void) => T): T {
  return orMisuse(() =>
    putInPlace(file, replace, (unfinished) => {
      const fd = openSync(unfinished, 'wx', 0o600);
      try {
        const result = run((chunk) => {
          for (let done = 0; done < chunk.length; ) done += writeSync(fd, chunk, done);
        });
        fsyncSync(fd);
        return result;
      } finally {
        closeSync(fd);
      }
    }),
  );
}

/** What the file system refuses is said in one line. */
function orMisuse<T>(run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw error instanceof CodedError ? error : misuse(messageOf(error), error);
  }
}

function print(
  { image, file, lost, summary }: { image: string; file: string; lost: readonly Lost[]; summary: ExportSummary },
  flags: ExportFlags,
  output: Output,
): void {
  const { keys, payloadBytes, bytes, digest } = summary;
  if (flags.json) {
    output.out(`${JSON.stringify({ image, file, keys, payloadBytes, bytes, sha256: toHex(digest), lost })}\n`);
    return;
  }
  for (const { key, what } of lost) output.out(`${paint(output, 'red', 'LOST')} ${key}: ${what}\n`);
  output.out(`${file}: ${countOf(keys, 'key')}, ${bytes} bytes, contents ${toHex(digest)}\n`);
}
