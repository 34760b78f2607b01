import type { Explored, Scenario } from '../../src/explore/index.ts';
import { brokenRules, stateFsScenario, workloads } from '../../src/testing/index.ts';
import { twins } from './twins.ts';

/** For threads: a scenario that ships with powercut, with a rule taken away or without; or `twins`. */
export function explorable(data: unknown): Explored {
  const { name, broken } = data as { name: string; broken?: string };
  if (name === 'twins') return { scenario: twins(broken === undefined) as Scenario };
  const rules = broken === undefined ? undefined : brokenRules[broken]?.rules;
  const workload = workloads[name]?.();
  if (workload === undefined) throw new Error(`there is no workload ${name}`);
  return { scenario: stateFsScenario(workload, rules === undefined ? {} : { rules }) as Scenario };
}
