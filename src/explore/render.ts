import { briefly } from './brief.ts';
import type { Story, StoryLevel } from './replay.ts';
import { describeOp, type Scenario } from './scenario.ts';
import { describeStep, type Step, shortHex } from './steps.ts';

/** How many steps before the cut are shown. */
const LINES_BEFORE = 20;
/** Reads in a row beyond this are counted, not listed. */
const READS_SHOWN = 4;
/** Characters of an observation. */
const OBSERVATION_SHOWN = 120;

/** A story as lines of text, for a terminal. */
export function renderStory(story: Story, describe: (op: unknown) => string = (op) => plain(op)): string[] {
  const lines = [`scenario ${story.scenario}, profile ${story.profile}, crash point ${story.case.crashPoint}`, ''];
  const hidden = story.before.length - LINES_BEFORE;
  if (hidden > 0) lines.push(`  (${hidden} earlier steps)`);
  for (const line of story.before.slice(-LINES_BEFORE)) lines.push(`  ${line}`);
  lines.push(`POWER CUT ${story.where}`);
  for (const [at, level] of story.levels.entries()) lines.push('', ...renderLevel(level, at, describe));
  const verdict = story.violation === undefined ? 'OK: nothing was wrong this time' : `VIOLATION: ${story.violation}`;
  return [...lines, '', verdict];
}

function plain(op: unknown): string {
  return describeOp({ name: '' } as Scenario, op);
}

function renderLevel(level: StoryLevel, at: number, describe: (op: unknown) => string): string[] {
  const lines = [`recovery ${at + 1}`];
  let reads: Step[] = [];
  const endReads = () => {
    lines.push(...renderReads(reads));
    reads = [];
  };
  for (const step of level.steps) {
    if (step.kind === 'read') {
      reads.push(step);
      continue;
    }
    endReads();
    lines.push(...renderStep(step, describe));
  }
  endReads();
  if (level.cut !== undefined) lines.push(`POWER CUT ${level.cut}`);
  return lines;
}

function renderReads(reads: readonly Step[]): string[] {
  const shown = reads.slice(0, READS_SHOWN).map((step) => `  ${describeStep(step)}`);
  return reads.length > READS_SHOWN ? [...shown, `  (${reads.length - READS_SHOWN} more reads)`] : shown;
}

function renderStep(step: Step, describe: (op: unknown) => string): string[] {
  if (step.kind === 'keep') return renderKeep(step);
  if (step.kind !== 'tell') return [`  ${describeStep(step)}`];
  const { event } = step;
  if (event.kind === 'observe') return [`  observed ${briefly(event.observation, OBSERVATION_SHOWN)}`];
  if (event.kind === 'fault') return [`  FAULT ${describeStep(step)}`];
  return event.kind === 'cut' ? ['  cut'] : [`  ${event.kind} ${describe(event.op)}`];
}

function renderKeep(step: Step & { kind: 'keep' }): string[] {
  const line = `    ${describeStep(step)}`;
  if (step.resolution.kind !== 'version' || step.resolution.index === 0) return [line];
  const at = step.kept.findIndex((byte, i) => byte !== step.newest[i]);
  return [
    line,
    `      from byte ${at}: newest ${shortHex(step.newest, at)}`,
    `      ${' '.repeat(`from byte ${at}:`.length)} kept   ${shortHex(step.kept, at)}`,
  ];
}
