import { Command, Option } from 'commander';
import {
  type CheckResult,
  type Finding,
  type FsckReport,
  fsck,
  type Severity,
  type Verdict,
} from '../statefs/index.ts';
import type { CommandContext } from './command.ts';
import { EXIT_CLEAN, EXIT_MISUSE, EXIT_VIOLATION } from './exit-codes.ts';
import { formatTable, type Output, paint } from './output.ts';
import { StatusLine } from './status-line.ts';
import { withStoreImage } from './store-image.ts';
import { countOf } from './units.ts';

/** The options of `powercut fsck`, as parsed. */
interface FsckFlags {
  readonly repair?: boolean;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

const HELP = `
Checks superblocks, the log group by group, the SHA-256 of every live value, and the accounts of space. What a power cut
leaves behind is residue: harmless, and no reason to repair. Without --repair, and with --dry-run, the image is opened
read-only. Repair restores a lost superblock copy, writes anew what has lost its second proof, and deletes keys whose value
is lost: those are named first, so look before you repair. docs/storage/fsck.md has all of it.

Exit codes: 0 clean, residue or not; 1 repaired, or repairable; 2 beyond repair, no statefs image, or misuse.

Examples:
  powercut fsck state.img
  powercut fsck state.img --repair --dry-run
  powercut fsck state.img --repair --json
`;

/** `powercut fsck`. */
export function fsckCommand({ output, exit }: CommandContext): Command {
  return new Command('fsck')
    .description('check an image of statefs, and repair what can be repaired')
    .argument('<image>', 'a file, such as statefsd keeps')
    .option('--repair', 'put in order what can be; never writes over what is committed')
    .addOption(new Option('--dry-run', 'say what --repair would do, and write nothing'))
    .option('--json', 'one object on standard output')
    .addHelpText('after', HELP)
    .action((image: string, flags: FsckFlags) => exit(runFsck(image, flags, output)));
}

const EXIT_OF: Readonly<Record<Verdict, number>> = {
  clean: EXIT_CLEAN,
  repairable: EXIT_VIOLATION,
  repaired: EXIT_VIOLATION,
  'beyond-repair': EXIT_MISUSE,
  'no-store': EXIT_MISUSE,
};

function runFsck(image: string, flags: FsckFlags, output: Output): number {
  const isRepair = flags.repair === true && flags.dryRun !== true;
  const line = new StatusLine(output);
  const onProgress = (done: number, total: number): void =>
    line.update(() => `${image}: verified ${done} of ${total} values`);
  const report = withStoreImage(image, !isRepair, (device) => fsck(device, { repair: isRepair, onProgress }));
  line.end();
  if (flags.json) output.out(`${JSON.stringify({ image, dryRun: flags.dryRun === true, ...report })}\n`);
  else print(image, report, flags, output);
  return EXIT_OF[report.verdict];
}

function print(image: string, report: FsckReport, flags: FsckFlags, output: Output): void {
  const { check, repairs, after, verdict } = report;
  if (check.space !== undefined) output.out(`${summary(image, check).join('\n')}\n`);
  for (const finding of check.findings) output.out(`\n${describe(finding, output)}\n`);
  if (repairs.length > 0) output.out(`\n${repairs.join('\n')}\n`);
  if (after !== undefined && verdict !== 'repaired') {
    output.out('\nleft after the repair:\n');
    for (const finding of after.findings) output.out(`\n${describe(finding, output)}\n`);
  }
  output.out(`\n${verdictLine(report, flags, output)}\n`);
}

function summary(image: string, check: CheckResult): string[] {
  const { space, keys, verifiedValues, verifiedBytes, lastSequence, closed } = check;
  const percent = (bytes: number): string => `${((100 * bytes) / (space?.regionBytes ?? 1)).toFixed(1)}%`;
  const rows: [string, number][] =
    space === undefined
      ? []
      : [
          ['log', space.logBytes],
          ['  of it live', space.liveLogBytes],
          ['payloads', space.payloadBytes],
          ['  of them live', space.livePayloadBytes],
          ['free', space.freeBytes],
          ['region', space.regionBytes],
        ];
  return [
    `${image}: ${countOf(keys, 'key')}, ${verifiedValues} values of ${verifiedBytes} bytes verified, last group ${lastSequence}, ` +
      (closed ? 'closed' : 'not closed'),
    '',
    ...formatTable(
      ['space', 'bytes', 'share'],
      rows.map(([name, bytes]) => [name, bytes, percent(bytes)]),
    ),
  ];
}

const COLOURS: Readonly<Record<Severity, 'dim' | 'yellow' | 'red'>> = {
  residue: 'dim',
  settled: 'yellow',
  damage: 'red',
};

function describe(finding: Finding, output: Output): string {
  const { severity, kind, sector, offsetBytes, keys, what, lost, repair } = finding;
  return [
    `${paint(output, COLOURS[severity], severity.toUpperCase())} ${kind} at sector ${sector} (byte ${offsetBytes})`,
    `  ${what}`,
    ...(keys.length > 0 ? [`  keys:   ${keys.join(', ')}`] : []),
    `  lost:   ${lost}`,
    ...(severity === 'damage' ? [`  repair: ${repair ?? 'none'}`] : []),
  ].join('\n');
}

function verdictLine({ verdict, check }: FsckReport, flags: FsckFlags, output: Output): string {
  const count = check.findings.filter(({ severity }) => severity === 'damage').length;
  switch (verdict) {
    case 'clean':
      return `${paint(output, 'green', 'clean')}: nothing that is live is damaged`;
    case 'repairable':
      return `${paint(output, 'yellow', 'repairable')}: ${count} found; ${flags.repair ? 'without --dry-run this would be' : '--repair does what is'} said above`;
    case 'repaired':
      return `${paint(output, 'yellow', 'repaired')}: ${count} found, and checked again afterwards`;
    case 'beyond-repair':
      return `${paint(output, 'red', 'beyond repair')}: ${count} found; restore the image from a backup, or salvage what reads`;
    case 'no-store':
      return `${paint(output, 'red', 'no statefs image')}: nothing was checked`;
  }
}
