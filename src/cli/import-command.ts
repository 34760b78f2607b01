import { closeSync, existsSync, openSync, readSync, statSync } from 'node:fs';
import { Command } from 'commander';
import { FileDevice } from '../blockdev/index.ts';
import { CodedError, messageOf, toHex } from '../core/index.ts';
import { type ExportSummary, importStore, readExport } from '../statefs/index.ts';
import type { CommandContext } from './command.ts';
import { EXIT_CLEAN } from './exit-codes.ts';
import { checkTarget, putInPlace } from './new-file.ts';
import type { Output } from './output.ts';
import { misuse } from './scenarios.ts';
import { StatusLine } from './status-line.ts';
import { countOf, formatBytes, parseSize } from './units.ts';

interface ImportFlags {
  readonly size?: number;
  readonly replace?: boolean;
  readonly json?: boolean;
}

const MIB = 1024 * 1024;
const SECTOR_BYTES = 512;
const READ_BYTES = MIB;
/** What a record takes up beside its payload, and a byte of payload with the heads of its frames. */
const RECORD_BYTES = 1024;
const PAYLOAD_FACTOR = 1.1;

const HELP = `
Makes an image that holds exactly what was exported, every value verified. It appears once it is whole and durable: what is
interrupted or damaged leaves no image, and an older one as it was. Its size is such that
it is half full, unless --size says otherwise. docs/storage/export.md has the format of the file.

Exit codes: 0 imported; 2 a damaged file, no export, too small a size, or misuse.

Examples:
  powercut import state.sfx state.img
  powercut import state.sfx state.img --size 64M --replace
`;

/** `powercut import`. */
export function importCommand({ output, exit }: CommandContext): Command {
  return new Command('import')
    .description('make a statefs image of what powercut export has written')
    .argument('<file>', 'what powercut export has written')
    .argument('<image>', 'the image to make; must not exist')
    .option('--size <size>', 'of the image: 4M, 1G', parseSize)
    .option('--replace', 'put the new image in the place of an old one')
    .option('--json', 'one object on standard output')
    .addHelpText('after', HELP)
    .action((file: string, image: string, flags: ImportFlags) => exit(runImport(file, image, flags, output)));
}

function runImport(file: string, image: string, flags: ImportFlags, output: Output): number {
  const replace = flags.replace === true;
  checkTarget(image, { replace, source: file });
  const line = new StatusLine(output);
  try {
    if (!statSync(file).isFile()) throw misuse(`${file} is no regular file: expected what powercut export has written`);
    const fd = openSync(file, 'r');
    try {
      const progress =
        (doing: string) =>
        (bytes: number): void =>
          line.update(() => `${image}: ${formatBytes(bytes)} ${doing}`);
      // Once all is known to be right, an image is made.
      const neededBytes = roomFor(chunksOf(fd, progress('verified')));
      const sizeBytes = flags.size ?? neededBytes;
      const summary = makeImage(image, sizeBytes, replace, chunksOf(fd, progress('imported')));
      print(file, image, sizeBytes, summary, flags, output);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    throw isFileError(error) ? misuse(messageOf(error), error) : error;
  } finally {
    line.end();
  }
  return EXIT_CLEAN;
}

/** Verifies an export. @returns the size of an image that it fills to a half at most */
function roomFor(chunks: Iterable<Uint8Array>): number {
  const records = readExport(chunks);
  let regionBytes = 0;
  for (let next = records.next(); next.done !== true; next = records.next()) {
    regionBytes += RECORD_BYTES + PAYLOAD_FACTOR * next.value.payload.length;
  }
  // Two regions, each of them half full.
  return Math.ceil((4 * regionBytes) / MIB + 1) * MIB;
}

/** What the file, the file system or the store refuses is said in one line. */
function isFileError(error: unknown): boolean {
  return error instanceof CodedError || typeof (error as { syscall?: unknown }).syscall === 'string';
}

/** Makes the image under another name until it is whole. */
function makeImage(image: string, sizeBytes: number, replace: boolean, chunks: Iterable<Uint8Array>): ExportSummary {
  // Whoever has the old one open would go on with a file that nobody sees any more.
  if (replace && existsSync(image)) FileDevice.open(image, { sectorBytes: SECTOR_BYTES }).close();
  return putInPlace(image, replace, (unfinished) => {
    const device = FileDevice.create(unfinished, { sectorCount: Math.floor(sizeBytes / SECTOR_BYTES) });
    try {
      return importStore(device, chunks);
    } finally {
      device.close();
    }
  });
}

function* chunksOf(fd: number, onProgress: (bytes: number) => void): Generator<Uint8Array> {
  const buffer = new Uint8Array(READ_BYTES);
  for (let bytes = 0; ; ) {
    const count = readSync(fd, buffer, 0, buffer.length, bytes);
    if (count === 0) return;
    bytes += count;
    yield buffer.subarray(0, count);
    onProgress(bytes);
  }
}

function print(
  file: string,
  image: string,
  sizeBytes: number,
  { keys, payloadBytes, digest }: ExportSummary,
  flags: ImportFlags,
  output: Output,
): void {
  const sha256 = toHex(digest);
  output.out(
    flags.json === true
      ? `${JSON.stringify({ file, image, keys, payloadBytes, sizeBytes, sha256 })}\n`
      : `${image}: ${countOf(keys, 'key')}, an image of ${formatBytes(sizeBytes)}, contents ${sha256}\n`,
  );
}
