import { expect, it } from 'vitest';
import type { Scenario } from '../../src/explore/index.ts';
import { deviationsIn, shrinkSteps } from '../../src/explore/index.ts';

/** Each step writes its sector; `lazy` does not flush; the store fails where `bad` went missing. */
type Step = { readonly sector: number; readonly lazy?: boolean };

function scenarioOf(steps: readonly Step[]): Scenario<Step, number[]> {
  if (steps.some(({ sector }) => sector === 99)) throw new Error('no such sector');
  return {
    name: 'sectors',
    disk: { sectorCount: 8 },
    format() {},
    workload(device, run) {
      for (const step of steps) {
        run.begin(step);
        device.write(step.sector, new Uint8Array(512).fill(1));
        if (!step.lazy) device.flush();
        run.acknowledge(step);
      }
    },
    recover(device) {
      const bytes = new Uint8Array(512);
      return [0, 1, 2, 3].filter((sector) => {
        device.read(sector, bytes);
        return bytes[0] === 1;
      });
    },
    invariant(found, history) {
      for (const event of history) {
        if (event.kind === 'acknowledge' && !found.includes(event.op.sector))
          throw new Error(`lost ${event.op.sector}`);
      }
    },
  };
}

it('leaves out every step that the failure does not need, and every sector that need not be lost', () => {
  const steps: Step[] = [{ sector: 0 }, { sector: 1 }, { sector: 2, lazy: true }, { sector: 3, lazy: true }];
  const small = shrinkSteps(steps, scenarioOf, { explore: { depth: 1 } })!;
  expect(small.steps).toEqual([{ sector: 2, lazy: true }]);
  expect(small).toMatchObject({ operations: 1, deviations: 1 });
  expect(small.violation.message).toBe('lost 2');
  expect(deviationsIn(small.violation)).toBe(1);
});

it('a sound workload has no failure, and one that makes no sense is none', () => {
  expect(shrinkSteps([{ sector: 0 }, { sector: 1 }], scenarioOf)).toBeUndefined();
  expect(shrinkSteps([{ sector: 99 }], scenarioOf)).toBeUndefined();
  expect(shrinkSteps([{ sector: 0, lazy: true }], scenarioOf, { maxWorkloads: 0 })).toBeUndefined();
});
