import { Command } from 'commander';
import { describeValue } from '../core/index.ts';
import { decodeToken, renderStory, replayAsync, type Scenario, type Story } from '../explore/index.ts';
import { assertCommit } from '../statefs/index.ts';
import { FUZZ_SCENARIO, fuzzBreaks, fuzzCaseOf, fuzzScenario } from '../testing/index.ts';
import type { CommandContext } from './command.ts';
import { EXIT_CLEAN, EXIT_VIOLATION } from './exit-codes.ts';
import type { Output } from './output.ts';
import { isShipped, loadScenario, misuse, placeOf, scenarioFailure, tokenPath } from './scenarios.ts';
import { stackOf, type Through } from './stack.ts';
import { paintStoryLine } from './story.ts';

/** The options of `powercut replay`, as parsed. */
export interface ReplayFlags {
  readonly scenario?: string;
  readonly json?: boolean;
}

const REPLAY_HELP = `
Exit codes: 1 it still violates, 0 it does not, 2 misuse or a scenario that can't be run.

Example:
  powercut replay pc1.DGJvb3QtY29udHJvbA... --json
`;

/** `powercut replay`. */
export function replayCommand({ output, exit }: CommandContext): Command {
  return new Command('replay')
    .description('one failing crash again: what was durable, what was torn, what recovery saw, old and new bytes')
    .argument('<token>', 'as explore printed it')
    .option('--scenario <file>', 'the file that the scenario is in, where it is your own')
    .option('--json', 'one object on standard output')
    .addHelpText('after', REPLAY_HELP)
    .action(async (token: string, flags: ReplayFlags) => exit(await runReplay(token, flags, output)));
}

/** Runs `powercut replay`. @returns the exit code: 1 where the case still violates */
export async function runReplay(token: string, flags: ReplayFlags, output: Output): Promise<number> {
  const { scenario: name, settings } = decodeToken(token);
  const { commit = 'checksummed', through = 'direct', size, file, fuzz } = settings;
  const isFuzz = name === FUZZ_SCENARIO && fuzz !== undefined && flags.scenario === undefined;
  const sourceOf = () => flags.scenario ?? (file === undefined ? nameOfToken(name) : fileOfToken(file, name));
  const source = isFuzz ? name : sourceOf();
  const scenario = isFuzz
    ? fuzzScenarioOf(fuzz, settings['break'])
    : await loadScenario(source, {
        commit: commitOf(commit),
        sizeBytes: size === undefined ? undefined : Number(size),
        broken: settings['break'],
      });
  const options = { ...stackOf(throughOf(through)), settings };
  const story = await replayAsync(scenario, token, options).catch((error: unknown) => {
    throw scenarioFailure(source, error);
  });
  if (flags.json) output.out(`${JSON.stringify(toJson(story), (_key, value) => plain(value))}\n`);
  else
    for (const line of renderStory(story, scenario.describe?.bind(scenario)))
      output.out(`${paintStoryLine(output, line)}\n`);
  const place = placeOf(story.thrown);
  if (place !== undefined && !flags.json) output.out(`  thrown at ${place}\n`);
  return story.violation === undefined ? EXIT_CLEAN : EXIT_VIOLATION;
}

/** A name is no path: only what ships with powercut is found by it. */
function nameOfToken(name: string): string {
  if (isShipped(name)) return name;
  throw misuse(`token: no scenario ${describeValue(name)} ships with powercut: name its file with --scenario`);
}

/** The scenario of a token of {@link fuzzScenario}, which holds all of it. */
function fuzzScenarioOf(text: string, broken: string | undefined): Scenario {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw misuse('token: its fuzz case is no JSON');
  }
  if (broken === undefined) return fuzzScenario(fuzzCaseOf(parsed)) as Scenario;
  const rules = Object.hasOwn(fuzzBreaks, broken) ? fuzzBreaks[broken]?.rules : undefined;
  if (rules === undefined) throw misuse('token: it names a rule that there is not');
  return fuzzScenario(fuzzCaseOf(parsed), { rules }) as Scenario;
}

/** A token is text that people paste: it may name a script at or below the folder they stand in, and no other. */
function fileOfToken(file: string, name: string): string {
  if (file !== '' && tokenPath(file) === file) return file;
  throw misuse(
    `token: the scenario ${describeValue(name)} is in a file outside of this folder: name it with --scenario`,
  );
}

function commitOf(text: string): 'ordered' | 'checksummed' {
  try {
    assertCommit(text);
    return text;
  } catch {
    throw misuse('token: it names a commit mode that there is not');
  }
}

function throughOf(text: string): Through {
  if (text === 'virtio' || text === 'direct') return text;
  throw misuse('token: it names a stack that there is not');
}

function toJson(story: Story): unknown {
  const { scenario, profile, where, before, levels, kept, violation } = story;
  return { scenario, profile, where, before, levels, kept, violation: violation ?? null };
}

/** Bytes as hexadecimal, big integers as decimal strings. */
function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString();
  return value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value;
}
