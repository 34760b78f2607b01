import { Command } from 'commander';
import {
  type FrameInfo,
  type GroupInfo,
  type Inspection,
  inspect,
  type OperationInfo,
  type SuperblockInfo,
} from '../statefs/index.ts';
import type { CommandContext } from './command.ts';
import { EXIT_CLEAN } from './exit-codes.ts';
import { formatTable, type Output } from './output.ts';
import { withStoreImage } from './store-image.ts';
import { countOf } from './units.ts';

interface InspectFlags {
  readonly json?: boolean;
}

const HELP = `
Both superblocks, then the log, frame by frame: where each frame stands, what it says, and in the last frame of each group
what recovery makes of it, in the words of docs/storage/statefs.md. Flags: L last of its type, O ordered commit, M moved.
The image is opened read-only. Whether the values verify is for powercut fsck to say.

Exit codes: 0 it was shown; 2 no statefs image, or misuse.

Examples:
  powercut inspect state.img
  powercut inspect state.img --json
`;

/** `powercut inspect`. */
export function inspectCommand({ output, exit }: CommandContext): Command {
  return new Command('inspect')
    .description('show an image of statefs: superblocks, and the log frame by frame')
    .argument('<image>', 'a file, such as statefsd keeps')
    .option('--json', 'one object on standard output')
    .addHelpText('after', HELP)
    .action((image: string, flags: InspectFlags) => {
      const inspection = withStoreImage(image, true, inspect);
      if (flags.json) output.out(`${JSON.stringify({ image, ...inspection })}\n`);
      else print(image, inspection, output);
      exit(EXIT_CLEAN);
    });
}

function print(image: string, found: Inspection, output: Output): void {
  const { sectorBytes, sectorCount, unitSectors, regionSectors, regionSectorCount, activeRegion } = found;
  const regions = regionSectors.map((first) => `${first}..${first + regionSectorCount - 1}`);
  const lines = [
    `${image}: ${sectorCount} sectors of ${sectorBytes} bytes, units of ${unitSectors}; regions ${regions.join(' and ')}, ` +
      `region ${activeRegion} is active`,
    '',
    ...superblockTable(found.superblocks),
    '',
  ];
  if (found.groups.length > 0) {
    const rows = found.groups.flatMap(groupRows);
    lines.push(
      ...formatTable(['sector', 'size', 'frame', 'flags', 'group', 'epoch', 'durable', 'says', 'recovery'], rows),
      '',
    );
  }
  lines.push(
    `log: sectors ${found.logSector}..${found.tailSector - 1}, ${found.groups.filter(({ inEffect }) => inEffect).length} groups, ` +
      `last group ${found.lastSequence}, ${countOf(found.keys, 'key')}; free up to ${found.payloadFloor - 1}`,
  );
  output.out(`${lines.join('\n')}\n`);
}

const SUPERBLOCK_HEADER = [
  'copy',
  'state',
  'generation',
  'epoch',
  'region',
  'frontier',
  'group',
  'payloads',
  'closed',
  'features',
];

function superblockTable(superblocks: readonly SuperblockInfo[]): string[] {
  const rows = superblocks.map(({ copy, state, inUse, fields }) =>
    fields === undefined
      ? [copy, state, ...SUPERBLOCK_HEADER.slice(2).map(() => '-')]
      : [
          copy,
          inUse ? 'in use' : 'valid',
          fields.generation,
          fields.epoch,
          fields.activeRegion,
          fields.frontierSector,
          fields.frontierSequence,
          fields.payloadFloor,
          fields.clean ? 'yes' : 'no',
          `0x${fields.features.toString(16)}`,
        ],
  );
  const why = superblocks.flatMap(({ copy, why }) => (why === undefined ? [] : [`copy ${copy}: ${why}`]));
  return [...formatTable(SUPERBLOCK_HEADER, rows), ...why];
}

/** A row for each frame; the last one has the verdict over the group. */
function groupRows(group: GroupInfo): (string | number)[][] {
  const rows = [...group.frames.map(frameRow), ...group.blankSectors.map(blankRow)];
  rows.sort((a, b) => (a[0] as number) - (b[0] as number));
  if (rows.length === 0) rows.push(blankRow(group.sector));
  (rows.at(-1) as (string | number)[]).push(group.row);
  return rows;
}

function blankRow(sector: number): (string | number)[] {
  return [sector, 1, '-', '-', '-', '-', '-', 'no frame'];
}

function frameRow(frame: FrameInfo): (string | number)[] {
  const flags = `${frame.last ? 'L' : ''}${frame.ordered ? 'O' : ''}${frame.moved ? 'M' : ''}`;
  return [
    frame.sector,
    frame.sectorCount,
    `${frame.type} ${frame.index}`,
    flags === '' ? '-' : flags,
    frame.sequence,
    frame.epoch,
    frame.durableSequence,
    frame.body === 'whole' ? says(frame) : `body ${frame.body}`,
  ];
}

function says({ type, operations }: FrameInfo): string {
  return operations.map((operation) => (type === 'temp' ? ofTemp(operation) : ofCommit(operation))).join('; ');
}

function ofTemp({ kind, key, payloadBytes, extentSector, extentFrames }: OperationInfo): string {
  if (kind !== 'put') return `${kind} ${key}`;
  const where = extentFrames > 0 ? `, ${extentFrames} payload frames from sector ${extentSector} on` : '';
  return `put ${key}, ${payloadBytes} bytes${where}`;
}

function ofCommit({ kind, key, digest }: OperationInfo): string {
  return digest === undefined ? `${kind} ${key}` : `${key} ${digest.slice(0, 12)}`;
}
