import { Command, Option } from 'commander';
import { explorableFaultKinds, profiles } from '../faults/index.ts';
import {
  brokenRules,
  importBreaks,
  mediaBreaks,
  repairBreaks,
  repairs,
  scrubBreaks,
  scrubs,
  serviceBreaks,
  services,
  workloads,
} from '../testing/index.ts';
import type { CommandContext } from './command.ts';
import { runExplore } from './explore-command.ts';
import { type ExploreFlags, parseShard } from './explore-flags.ts';
import { parseFaults } from './faults-option.ts';
import { parseCount, parseSize, parseTimeMs } from './units.ts';

const EXPLORE_HELP = `
Scenarios that ship with powercut:
${Object.entries(workloads)
  .map(([name, make]) => `  ${name.padEnd(14)} ${make().description}`)
  .join('\n')}
${Object.entries(services)
  .map(([name, { description }]) => `  ${name.padEnd(14)} ${description}`)
  .join('\n')}
fsck --repair of a store that the medium has damaged (docs/storage/fsck.md):
  ${Object.keys(repairs).join(', ')}
A scrub beside puts, of a store that the medium spoils meanwhile (docs/storage/scrub.md):
  ${Object.keys(scrubs).join(', ')}
An import onto a partition that holds another store (docs/storage/export.md):
  import
A medium that does wrong, with --faults (docs/disk-model.md):
  media
A file exports a scenario as default or as "scenario", or a function that makes one.

Disks (--profile), by what a cut may do to what was not flushed:
  nvme-512       each sector of 512 bytes is old or new
  4kn            each sector of 4096 bytes is old or new
  512e           the same in 512 bytes, or all 4096 around it are noise
  harsh          the same in 512 bytes, or torn inside

Faults (--faults), of which the invariant is told in its history (docs/disk-model.md):
  ${explorableFaultKinds.join(', ')}

Rules to take away (--break), to see the explorer object:
${Object.entries(brokenRules)
  .map(([name, { what }]) => `  ${name.padEnd(14)} ${what}`)
  .join('\n')}
and of updated and keystored also:
${Object.entries(serviceBreaks)
  .map(([name, what]) => `  ${name.padEnd(14)} ${what}`)
  .join('\n')}
of the repairs, scrubs, the import and media instead:
${[
  ...Object.entries(repairBreaks),
  ...Object.entries(scrubBreaks),
  ...Object.entries(importBreaks),
  ...Object.entries(mediaBreaks),
]
  .map(([name, { what }]) => `  ${name.padEnd(14)} ${what}`)
  .join('\n')}

Exit codes: 0 no violation found, 1 violation, 2 misuse or a scenario that can't be run,
3 incomplete though --require-complete was given.

Examples:
  powercut explore                                  boot-control, every power cut, through a virtio ring
  powercut explore large-value --size 64K --through direct
  powercut explore boot-control --break epoch       watch it fail
  powercut explore media --faults lost-write        a medium that loses writes in silence
  powercut explore ./scenario.ts --depth 1 --json   one of your own
  powercut explore large-value --through direct --workers 2 --resume large.jsonl --time 30s
`;

/** `powercut explore`. */
export function exploreCommand({ output, exit }: CommandContext): Command {
  return new Command('explore')
    .description('cover every crash of a scenario: every crash point, every disk image that a cut there can leave')
    .argument('[scenario]', 'a name from below, or a .ts or .js file', 'boot-control')
    .option('--depth <n>', 'power cuts in a row: 1 in the workload, 2 one more in recovery, ...', parseCount(1, 16), 2)
    .addOption(
      new Option(
        '--commit <mode>',
        'how the store commits, in the scenarios that ship with powercut; default checksummed',
      ).choices(['ordered', 'checksummed']),
    )
    .addOption(new Option('--profile <name>', 'the disk').choices(Object.keys(profiles)).default('nvme-512'))
    .addOption(
      new Option('--strategy <name>', 'which images')
        .choices(['exhaustive', 'bounded', 'random', 'prefix', 'prefix-torn'])
        .default('exhaustive'),
    )
    .addOption(
      new Option('--through <stack>', 'what stands before the disk').choices(['virtio', 'direct']).default('virtio'),
    )
    .option('--seed <n>', 'of --strategy random; default 1', parseCount(0))
    .option('--runs <n>', 'of --strategy random: cuts to draw; default 1000', parseCount(1))
    .option('--bound <k>', 'of --strategy bounded: deviations from "everything persisted"; default 1', parseCount(0))
    .option('--faults <kinds>', 'faults of the medium beside the cuts: bit-rot,lost-write; see below', parseFaults)
    .option('--max-faults <n>', 'of --faults: in one run; default 1', parseCount(1, 16))
    .option('--time <time>', 'stop after this long: 30s, 5m; the result says incomplete', parseTimeMs)
    .option('--max-recoveries <n>', 'stop after so many recoveries', parseCount(1))
    .option('--max-violations <n>', 'stop after so many recoveries that violate; default 5', parseCount(1))
    .option('--size <size>', 'of the value of large-value: 64K, 1M', parseSize)
    .option('--plain', 'run every recovery, also one of which it is known what it does')
    .option('--break <rule>', 'take a rule away from the store')
    .option('--workers <n>', 'threads; the result is the same whatever their number', parseCount(1, 256), 1)
    .option('--shard <i/n>', "only this machine's part of the crash points, to be merged later", parseShard)
    .option('--out <file>', 'write each part of the result there as it is done, for merge or --resume')
    .option('--resume <file>', 'leave out what that file has, and go on in it; starts it where there is none')
    .option('--require-complete', 'exit with 3 unless the exploration was complete')
    .option('--all', 'show every crash point in the table')
    .option('--junit <file>', 'write it as JUnit XML too, for CI: a test case for each crash point')
    .option('--json', 'one object on standard output')
    .addHelpText('after', EXPLORE_HELP)
    .action(async (name: string, flags: ExploreFlags) => exit(await runExplore(name, flags, output)));
}
