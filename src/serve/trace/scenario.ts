import type { BlockDevice } from '../../blockdev/index.ts';
import { CodedError } from '../../core/index.ts';
import type { History, RecoveryRun, Run, Scenario } from '../../explore/index.ts';
import type { TraceLine } from './events.ts';
import { TraceFile } from './reader.ts';

/** What is to be done with the disk that a cut left of a recorded workload; as for any scenario. */
export interface TraceScenarioOptions<Observation> {
  readonly name?: string;
  readonly recover: Scenario<string, Observation>['recover'];
  /** Its history has the operations that were marked, by their names. Default: nothing is asked beyond the recovery. */
  readonly invariant?: (observation: Observation, history: History<string, Observation>) => void;
  /** Also puts every request of the clients into the history, as `write 12`, `flush 13`. Default false: marks only. */
  readonly requests?: boolean;
}

/**
 * A scenario whose workload is a recorded trace: explores every cut of what real clients did. The workload ends where the
 * power failed, if it did while recording.
 * @throws CodedError EINVAL for what is no trace
 */
export function traceScenario<Observation>(
  path: string,
  options: TraceScenarioOptions<Observation>,
): Scenario<string, Observation> {
  const file = new TraceFile(path);
  const { sectorBytes, sectorCount } = file.header;
  return {
    name: options.name ?? 'trace',
    description: `the recorded workload of ${path}`,
    disk: { sectorCount: (sectorCount * sectorBytes) / 512 },
    format: (device) => {
      checkSectors(device, sectorBytes);
      for (const line of file.lines()) {
        if (line.kind !== 'base') break;
        device.write(line.sector, Buffer.from(line.data, 'base64'));
      }
    },
    workload: (device, run) => {
      const marks = new Marks(run, options.requests ?? false);
      for (const line of file.lines()) {
        if (line.kind === 'cut') break;
        marks.before(line);
        carryOut(line, device);
      }
    },
    recover: (device: BlockDevice, run: RecoveryRun<string, Observation>) => options.recover(device, run),
    invariant: (observation, history) => options.invariant?.(observation, history),
  };
}

function checkSectors(device: BlockDevice, sectorBytes: number): void {
  if (device.sectorBytes === sectorBytes) return;
  throw new CodedError(
    'EINVAL',
    `trace: it was recorded on sectors of ${sectorBytes} bytes, this disk has ${device.sectorBytes}: choose another profile`,
  );
}

function carryOut(line: TraceLine, device: BlockDevice): void {
  if (line.kind === 'write') device.write(line.sector, Buffer.from(line.data, 'base64'), { fua: line.fua });
  else if (line.kind === 'flush') device.flush();
  else if (line.kind === 'discard') device.discard(line.sector, line.sectorCount);
  else if (line.kind === 'writeZeroes') device.writeZeroes(line.sector, line.sectorCount);
}

/** Tells the run what was marked. A name may come again, once the operation before has ended. */
class Marks {
  readonly #run: Run<string>;
  readonly #requests: boolean;
  readonly #open = new Set<string>();
  readonly #names = new Map<number, string>();

  constructor(run: Run<string>, requests: boolean) {
    this.#run = run;
    this.#requests = requests;
  }

  before(line: TraceLine): void {
    if (line.kind === 'mark') {
      if (line.mark === 'begin') this.#begin(line.name);
      else this.#end(line.name, line.mark);
    }
    if (!this.#requests || !('operation' in line)) return;
    if (line.kind === 'acknowledge') {
      const name = this.#names.get(line.operation);
      this.#names.delete(line.operation);
      if (name !== undefined) this.#end(name, 'acknowledge');
    } else {
      const name = `${line.kind} ${line.operation}`;
      this.#names.set(line.operation, name);
      this.#begin(name);
    }
  }

  #begin(name: string): void {
    if (this.#open.has(name)) throw misplaced(name, 'it has begun, and not ended');
    this.#open.add(name);
    this.#run.begin(name);
  }

  #end(name: string, how: 'acknowledge' | 'fail'): void {
    if (!this.#open.delete(name)) throw misplaced(name, 'it has not begun');
    this.#run[how](name);
  }
}

function misplaced(name: string, why: string): CodedError {
  return new CodedError('EINVAL', `trace: the mark "${name}" is out of order: ${why}`);
}
