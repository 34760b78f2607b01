import { Command, Option } from 'commander';
import {
  describeFault,
  explorableFaultKinds,
  type MediaFaultKind,
  type ProfileName,
  profiles,
} from '../faults/index.ts';
import type { CommitMode } from '../statefs/index.ts';
import { type FuzzCase, Fuzzer, type FuzzFailure, type FuzzOutcome, fuzzBreaks } from '../testing/index.ts';
import type { CommandContext } from './command.ts';
import { EXIT_CLEAN, EXIT_VIOLATION } from './exit-codes.ts';
import { parseFaults } from './faults-option.ts';
import { CorpusFolder } from './fuzz-corpus.ts';
import { fuzzJUnitOf, writeJUnit } from './junit.ts';
import { checkReport } from './new-file.ts';
import { type Output, paint } from './output.ts';
import { misuse } from './scenarios.ts';
import { StatusLine } from './status-line.ts';
import { countOf, formatCount, formatMs, parseCount, parseTimeMs } from './units.ts';

/** The options of `powercut fuzz`, as parsed. */
interface FuzzFlags {
  readonly time?: number;
  readonly runs?: number;
  readonly seed?: number;
  readonly corpus?: string;
  readonly maxRecoveries: number;
  readonly maxFailures: number;
  readonly profile?: ProfileName;
  readonly commit?: CommitMode;
  readonly faults?: readonly MediaFaultKind[];
  readonly break?: string;
  readonly junit?: string;
  readonly json?: boolean;
}

const DEFAULT_TIME_MS = 60_000;
/** Seeds that people can read out to each other. */
const SEED_BOUND = 1_000_000;

const HELP = `
Each case is a workload of statefs: puts of many sizes, durable or lazy, overwrites, deletes, restarts and kills, on a
disk that is large or soon full, with any profile. Of a short case every crash is explored, of a long one some. Every
third case has a fault of the medium as well (--faults).

--corpus keeps, in a folder, each case that took recovery a way that none had taken before, and each failure, made small.
The next run tries the failures first, and goes on from the cases. Commit the folder, or cache it between CI runs.

The same seed, corpus and number of runs give the same result.

Faults (--faults), one of them in a third of the cases (docs/disk-model.md):
  ${explorableFaultKinds.join(', ')}

Exit codes: 0 no failure, 1 a failure, new or known, 2 misuse.

Examples:
  powercut fuzz --time 5m --corpus fuzz-corpus
  powercut fuzz --runs 200 --seed 7 --json
  powercut fuzz --runs 200 --break epoch          watch it find a broken store
  powercut fuzz --faults lost-write,bit-rot       of the faults of the medium, these
  powercut fuzz --faults none --junit fuzz.xml    power cuts alone; the result as JUnit XML too
`;

/** `powercut fuzz`. */
export function fuzzCommand({ output, exit }: CommandContext): Command {
  return new Command('fuzz')
    .description('random workloads of statefs, each with its crashes; keeps what is new and what fails')
    .option('--time <time>', 'stop after this long: 30s, 5m; default 60s unless --runs is given', parseTimeMs)
    .option('--runs <n>', 'stop after so many cases', parseCount(1))
    .option('--seed <n>', 'default: another one each time; it is printed', parseCount(0))
    .option('--corpus <folder>', 'where to keep what is found, and to go on from')
    .option('--max-recoveries <n>', 'recoveries that each case has', parseCount(1), 500)
    .option('--max-failures <n>', 'stop after so many failures', parseCount(1), 3)
    .addOption(new Option('--profile <name>', 'one disk; default: any').choices(Object.keys(profiles)))
    .addOption(new Option('--commit <mode>', 'one commit mode; default: any').choices(['ordered', 'checksummed']))
    .option(
      '--faults <kinds>',
      'of the faults of the medium, these: bit-rot,lost-write; or none; default: any',
      parseKinds,
    )
    .addOption(new Option('--break <rule>', 'take a rule away from the store').choices(Object.keys(fuzzBreaks)))
    .option('--junit <file>', 'write the result as JUnit XML too, for CI')
    .option('--json', 'one object on standard output')
    .addHelpText('after', HELP)
    .action((flags: FuzzFlags) => exit(runFuzz(flags, output)));
}

/** A failure, and where it is kept. */
interface FoundFailure {
  readonly failure: FuzzFailure;
  /** It is from an earlier session. */
  readonly isKnown: boolean;
  readonly file: string | undefined;
}

/** `bit-rot,lost-write`, or `none`. */
function parseKinds(text: string): readonly MediaFaultKind[] {
  return text.trim() === 'none' ? [] : parseFaults(text);
}

/** Runs `powercut fuzz`. @returns the exit code */
function runFuzz(flags: FuzzFlags, output: Output): number {
  if (flags.corpus === '') throw misuse('--corpus: expected the name of a folder, got none');
  if (flags.junit !== undefined) checkReport('--junit', flags.junit, {});
  const session = new FuzzSession(flags, output);
  session.tryKnownFailures();
  session.fuzz();
  if (flags.junit !== undefined) writeJUnit(flags.junit, session.toJUnit());
  if (flags.json) output.out(`${JSON.stringify(session.toJson())}\n`);
  else session.report();
  return session.found.length > 0 ? EXIT_VIOLATION : EXIT_CLEAN;
}

class FuzzSession {
  readonly found: FoundFailure[] = [];
  readonly #flags: FuzzFlags;
  readonly #output: Output;
  readonly #status: StatusLine;
  readonly #startMs: number;
  readonly #seed: number;
  readonly #corpus: CorpusFolder | undefined;
  readonly #fuzzer: Fuzzer;
  readonly #knownPaths: number;
  readonly #mended: string[] = [];
  #runs = 0;
  #recoveries = 0;
  #images = 0n;
  #complete = 0;

  constructor(flags: FuzzFlags, output: Output) {
    this.#flags = flags;
    this.#output = output;
    this.#status = new StatusLine(output);
    this.#startMs = output.clock.monotonicMs();
    this.#seed = flags.seed ?? output.clock.wallMs() % SEED_BOUND;
    this.#corpus = flags.corpus === undefined ? undefined : new CorpusFolder(flags.corpus);
    const cases = this.#corpus?.cases ?? [];
    const { profile, commit, faults, maxRecoveries } = flags;
    const rules = flags.break === undefined ? undefined : fuzzBreaks[flags.break]?.rules;
    this.#fuzzer = new Fuzzer({
      seed: this.#seed,
      maxRecoveries,
      corpus: cases.map(({ case: theCase }) => theCase),
      paths: cases.flatMap(({ paths }) => paths),
      ...(profile === undefined ? {} : { profile }),
      ...(commit === undefined ? {} : { commit }),
      ...(faults === undefined ? {} : { faults }),
      ...(rules === undefined ? {} : { broken: { name: flags.break as string, rules } }),
    });
    this.#knownPaths = this.#fuzzer.paths.size;
  }

  /** What failed once comes first. */
  tryKnownFailures(): void {
    for (const { case: theCase, file } of this.#corpus?.failures ?? []) {
      const { failure } = this.#account(this.#fuzzer.run(theCase));
      if (failure === undefined) this.#mended.push(file);
      else this.found.push({ failure, isKnown: true, file });
      this.#tell();
    }
  }

  fuzz(): void {
    while (this.#mayGoOn()) {
      this.#runs++;
      const outcome = this.#account(this.#fuzzer.next());
      if (outcome.newPaths.length > 0) this.#corpus?.keepCase(outcome);
      if (outcome.failure !== undefined) this.#keep(outcome.failure);
      this.#tell();
    }
    this.#status.end();
  }

  #account(outcome: FuzzOutcome): FuzzOutcome {
    this.#recoveries += outcome.recoveries;
    this.#images += outcome.images;
    if (outcome.complete) this.#complete++;
    return outcome;
  }

  #keep(failure: FuzzFailure): void {
    if (this.found.some((other) => other.failure.token === failure.token)) return;
    this.found.push({ failure, isKnown: false, file: this.#corpus?.keepFailure(failure) });
  }

  #mayGoOn(): boolean {
    const { runs, time, maxFailures } = this.#flags;
    if (this.found.length >= maxFailures || this.#runs === runs) return false;
    const limitMs = time ?? (runs === undefined ? DEFAULT_TIME_MS : Number.POSITIVE_INFINITY);
    return this.#elapsedMs() < limitMs;
  }

  #tell(): void {
    this.#status.update(() => {
      const failures = this.found.length === 0 ? '' : `, ${countOf(this.found.length, 'failure')}`;
      const rate = formatCount(Math.round((this.#recoveries / this.#elapsedMs()) * 1000));
      return `${countOf(this.#runs, 'case')}, ${formatCount(this.#recoveries)} recoveries (${rate}/s), ${this.#fuzzer.paths.size} ways through recovery${failures}`;
    });
  }

  #elapsedMs(): number {
    return this.#output.clock.monotonicMs() - this.#startMs;
  }

  /** The fields are stable; docs/fuzzing.md lists them. */
  toJson(): unknown {
    return {
      seed: this.#seed,
      runs: this.#runs,
      completeCases: this.#complete,
      recoveries: this.#recoveries,
      images: this.#images.toString(),
      paths: this.#fuzzer.paths.size,
      newPaths: this.#fuzzer.paths.size - this.#knownPaths,
      failures: this.found.map(({ failure, isKnown, file }) => ({
        known: isKnown,
        message: failure.message,
        token: failure.token,
        where: failure.violation.where,
        steps: failure.steps,
        operations: failure.operations,
        deviations: failure.deviations,
        file: file ?? null,
        case: failure.case,
      })),
      mended: this.#mended,
      elapsedMs: Math.round(this.#elapsedMs()),
    };
  }

  toJUnit(): string {
    const properties = {
      seed: this.#seed,
      runs: this.#runs,
      recoveries: this.#recoveries,
      images: this.#images,
      paths: this.#fuzzer.paths.size,
    };
    const plain = { ...this.#output, useColour: false };
    const failures = this.found.map((one) => ({
      message: one.failure.message,
      text: describeFailure(one, plain),
    }));
    return fuzzJUnitOf(properties, failures, this.#elapsedMs());
  }

  report(): void {
    const { out } = this.#output;
    for (const file of this.#mended) {
      out(paint(this.#output, 'green', `MENDED: ${file} no longer fails; it is kept, and tried again next time`));
      out('\n\n');
    }
    for (const one of this.found) out(`${describeFailure(one, this.#output)}\n\n`);
    const fresh = this.#fuzzer.paths.size - this.#knownPaths;
    out(`seed ${this.#seed}: ${countOf(this.#runs, 'case')}, every crash explored of ${this.#complete}\n`);
    out(`${formatCount(this.#recoveries)} recoveries, for ${formatCount(this.#images)} disk images, `);
    out(`in ${formatMs(this.#elapsedMs())}\n`);
    out(`${countOf(this.#fuzzer.paths.size, 'way')} through recovery, ${fresh} of them new\n`);
    const { length } = this.found;
    out(
      `${length === 0 ? paint(this.#output, 'green', 'no failure') : paint(this.#output, 'red', countOf(length, 'failure'))}\n`,
    );
  }
}

function describeFailure({ failure, isKnown, file }: FoundFailure, output: Output): string {
  return [
    paint(output, 'red', `FAILURE${isKnown ? ' (known)' : ''}: ${failure.message}`),
    `  ${describeDisk(failure.case)}`,
    ...failure.steps.map((step, at) => `  ${at + 1}. ${step}`),
    ...failure.violation.where.map((where) => `  power cut ${where}`),
    ...faultsIn(failure).map((fault) => `  fault: ${fault}`),
    `  replay it: npx powercut replay ${failure.token}`,
    ...(file === undefined ? [] : [`  kept in ${file}`]),
  ].join('\n');
}

/** Those of the workload stand beside the power cut already. */
function faultsIn({ violation: { history, where } }: FuzzFailure): string[] {
  const faults = history.flatMap((event) => (event.kind === 'fault' ? describeFault(event.fault) : []));
  return faults.filter((fault) => !where.some((place) => place.includes(fault)));
}

function describeDisk({ profile, diskBytes, through, faults }: FuzzCase): string {
  const way = through === 'virtio' ? 'through a virtio-blk ring' : 'direct';
  return `disk ${profile}, ${diskBytes / 1024} KiB, ${way}${faults === undefined ? '' : `, with ${faults.kind}`}`;
}
