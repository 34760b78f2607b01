import fc from 'fast-check';

/** Repeats one failing run: `seed,path` as a failure prints it. Meant for one property: name it with `-t`. */
const VARIABLE = 'POWERCUT_SEED';

/** Whether this run repeats a failure: totals over many runs mean nothing then. */
export const isReplaying: boolean = process.env[VARIABLE] !== undefined;

/** How many times as many runs as the suite has: for a longer hunt. */
const FACTOR_VARIABLE = 'POWERCUT_RUNS';

export interface PropertyRuns {
  readonly numRuns: number;
  /** For a run that has to be the same every time, whatever the environment says. */
  readonly seed?: number;
}

/** Seed and path from the environment's text, or undefined where it has none. */
export function parseReplay(text: string | undefined): { seed: number; path?: string } | undefined {
  if (text === undefined) return undefined;
  const match = /^(-?\d+)(?:,(\d+(?::\d+)*))?$/.exec(text.trim());
  if (match === null) throw new Error(`${VARIABLE}: expected seed or seed,path, got ${JSON.stringify(text)}`);
  const [, seed, path] = match;
  return path === undefined ? { seed: Number(seed) } : { seed: Number(seed), path };
}

/** The factor in the environment's text; 1 where it has none. */
export function parseFactor(text: string | undefined): number {
  if (text === undefined) return 1;
  if (!/^[1-9]\d{0,5}$/.test(text)) {
    throw new Error(`${FACTOR_VARIABLE}: expected a whole number of at least 1, got ${JSON.stringify(text)}`);
  }
  return Number(text);
}

/** The line that repeats a failing run, to be pasted into a shell. */
export function replayLine(file: string, name: string, seed: number, path: string | null): string {
  const value = path === null ? `${seed}` : `${seed},${path}`;
  return `${VARIABLE}='${value}' npx vitest run ${file} -t '${name}'`;
}

/**
 * Holds a property, or throws with fast-check's report and the one line that repeats the failure.
 * @param file path of the test file from the root of the repository
 * @param name of the test, as `-t` takes it
 */
export function holdProperty<T>(file: string, name: string, property: fc.IProperty<T>, runs: PropertyRuns): void {
  // What is the same every time would be the same again.
  const factor = runs.seed === undefined ? parseFactor(process.env[FACTOR_VARIABLE]) : 1;
  const numRuns = runs.numRuns * factor;
  const details = fc.check(property, { ...runs, numRuns, ...parseReplay(process.env[VARIABLE]) });
  if (!details.failed) return;
  const line = replayLine(file, name, details.seed, details.counterexamplePath);
  const cause = details.errorInstance;
  const told = cause instanceof Error ? cause.message : String(cause);
  throw new Error(`${told}\n\n${fc.defaultReportMessage(details)}\n\nrepeat it: ${line}\n`, { cause });
}

/** Whether a property, on a broken variant, is seen to fail. The same every time. */
export function isCaught<T>(property: fc.IProperty<T>, runs: Required<PropertyRuns>): boolean {
  return fc.check(property, { ...runs, endOnFailure: true }).failed;
}
