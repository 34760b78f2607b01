import type { Explored } from '../explore/index.ts';
import { loadScenario, type ScenarioSettings } from './scenarios.ts';
import { stackOf, type Through } from './stack.ts';

/** What a thread needs to build the scenario of the command line again. */
export interface ScenarioSource extends ScenarioSettings {
  readonly name: string;
  readonly through: Through;
}

/** For the threads of an exploration: see `Explorable`. */
export async function explorable(data: unknown): Promise<Explored> {
  const { name, through, ...settings } = data as ScenarioSource;
  return { scenario: await loadScenario(name, settings), ...stackOf(through) };
}
