import { describeFault } from '../faults/index.ts';
import type { KeptSector } from './result.ts';
import { describeOp, type Scenario } from './scenario.ts';
import { describeSectors, type StepLog } from './steps.ts';
import type { CrashPoint, TraceEvent } from './trace.ts';

/** Where a crash point is, with what was in flight. */
export function labelOf(scenario: Scenario, point: CrashPoint): string {
  const { inFlight, last } = point.history;
  const faults = point.history.events.flatMap((event) => (event.kind === 'fault' ? [describeFault(event.fault)] : []));
  if (faults.length > 0) {
    const ops =
      inFlight.length === 0 ? '' : `, ${inFlight.map((op) => describeOp(scenario, op)).join(' and ')} in flight`;
    return `${point.where}${ops}, with ${faults.join(' and ')}`;
  }
  if (inFlight.length > 0) {
    return `${point.where}, ${inFlight.map((op) => describeOp(scenario, op)).join(' and ')} in flight`;
  }
  if (last?.kind === 'acknowledge') return `${point.where}, after ${describeOp(scenario, last.op)}`;
  if (last?.kind === 'fail') return `${point.where}, after ${describeOp(scenario, last.op)} failed`;
  return point.where;
}

/** What the recoveries found the open sectors to be. */
export function keptSectors(logs: readonly StepLog[]): KeptSector[] {
  return logs.flatMap((log, level) =>
    log.steps.flatMap((step) => {
      if (step.kind !== 'keep') return [];
      const { sector, kind, index, versionCount } = step.resolution;
      return [{ level, sector, kind, version: index, versionCount }];
    }),
  );
}

/** An event of a workload in a few words. */
export function describeEvent(scenario: Scenario, event: TraceEvent): string {
  if (event.kind === 'flush') return 'flush';
  if (event.kind === 'failed-flush') return 'flush, which fails';
  if (event.kind === 'fault') return `FAULT ${describeFault(event.fault)}`;
  if (event.kind === 'write') {
    return `${event.fua ? 'durable write' : 'write'} ${describeSectors(event.sector, event.versions.length)}`;
  }
  if ('sector' in event) return `${event.kind} ${describeSectors(event.sector, event.sectorCount)}`;
  return `${event.kind} ${describeOp(scenario, event.op)}`;
}
