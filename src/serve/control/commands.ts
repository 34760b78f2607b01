import { assertInteger, assertString, CodedError, describeValue, type Timers } from '../../core/index.ts';
import type { CutResolution } from '../disk/outcome.ts';
import { saveImage } from '../disk/save.ts';
import type { CutSchedule } from '../disk/scheduled-cut.ts';
import type { PowerState, ServedDisk } from '../disk/served-disk.ts';
import type { ServedFault, ServedFaultKind } from '../disk/served-faults.ts';
import { MARKS, type Mark } from '../trace/events.ts';
import { TraceWriter } from '../trace/writer.ts';

/** What commands act upon. */
export interface ControlContext {
  readonly disk: ServedDisk;
  /** What the server in front of the disk counts. */
  readonly serverStatistics: () => Readonly<Record<string, number>>;
  /** Stops the server, after the answer has gone. */
  readonly stop: () => void;
  readonly timers: Timers;
}

/** A command as it came: fields that it does not have are refused. */
export type Fields = Readonly<Record<string, unknown>>;
/** What a command answers with. */
export type Answer = Readonly<Record<string, unknown>>;

interface Command {
  /** The fields that it may have. */
  readonly fields: readonly string[];
  /** @param gone the client is: what waits for its sake need not */
  run(state: ControlState, fields: Fields, gone: AbortSignal): Answer | Promise<Answer>;
}

/** What the control socket keeps from one command to the next. */
export class ControlState {
  readonly context: ControlContext;
  trace: TraceWriter | undefined;

  constructor(context: ControlContext) {
    this.context = context;
  }

  get disk(): ServedDisk {
    return this.context.disk;
  }

  /** The server is going: a trace that runs is ended in order. */
  close(): void {
    const { trace } = this;
    this.trace = undefined;
    trace?.close();
  }
}

const WAIT_MAX_MS = 3_600_000;

/** All commands, by name. docs/serve.md lists them. */
export const commands: Readonly<Record<string, Command>> = {
  status: { fields: [], run: ({ disk, trace, context }) => status(disk, trace, context) },
  cut: {
    fields: ['nth', 'of', 'when', 'firstSector', 'lastSector'],
    run: ({ disk }, fields) => {
      if (Object.keys(fields).length === 0) disk.cut();
      else disk.scheduleCut(fields as CutSchedule);
      return power(disk);
    },
  },
  'cancel-cut': {
    fields: [],
    run: ({ disk }) => {
      disk.scheduleCut(undefined);
      return power(disk);
    },
  },
  resolve: { fields: ['outcome'], run: ({ disk }, { outcome }) => ({ ...disk.resolve(outcome as CutResolution) }) },
  on: {
    fields: ['outcome'],
    run: ({ disk }, { outcome }) => {
      const report = outcome === undefined ? {} : disk.resolve(outcome as CutResolution);
      disk.powerOn();
      return { ...power(disk), ...report };
    },
  },
  wait: {
    fields: ['power', 'timeoutMs'],
    run: ({ disk, context }, fields, gone) => wait(disk, context.timers, fields, gone),
  },
  latency: {
    fields: ['read', 'write', 'flush', 'discard', 'writeZeroes'],
    run: ({ disk }, fields) => {
      disk.latency.set(fields as Record<string, number>);
      return { latencyMs: disk.latency.all };
    },
  },
  fault: {
    fields: ['kind', 'firstSector', 'lastSector', 'nth', 'times', 'of', 'delayMs', 'bit', 'toSector', 'writtenSectors'],
    run: ({ disk }, fields) => {
      disk.faults.add(fields as unknown as ServedFault);
      return { faults: disk.faults.all };
    },
  },
  'clear-faults': {
    fields: ['kind'],
    run: ({ disk }, { kind }) => ({
      cleared: disk.faults.clear(kind as ServedFaultKind | undefined),
      faults: disk.faults.all,
    }),
  },
  save: {
    fields: ['path'],
    run: ({ disk }, { path }) => {
      assertString(path, 'path');
      return { path, sizeBytes: saveImage(disk, path) };
    },
  },
  'trace-start': {
    fields: ['path'],
    run: (state, { path }) => {
      assertString(path, 'path');
      state.trace = new TraceWriter(state.disk, path);
      return { path };
    },
  },
  'trace-stop': {
    fields: [],
    run: (state) => {
      const trace = running(state);
      state.trace = undefined;
      trace.close();
      return { path: trace.path, lines: trace.lines };
    },
  },
  mark: {
    fields: ['mark', 'name'],
    run: (state, { mark, name }) => {
      assertString(name, 'name');
      if (!MARKS.includes(mark as Mark))
        throw new RangeError(`mark: expected one of ${MARKS.join(', ')}, got ${describeValue(mark)}`);
      running(state).mark(mark as Mark, name);
      return {};
    },
  },
  stop: {
    fields: [],
    run: ({ context }) => {
      context.stop();
      return {};
    },
  },
};

/**
 * Carries out one command.
 * @throws CodedError, TypeError, RangeError: what is wrong with it
 */
export async function carryOut(state: ControlState, name: unknown, fields: Fields, gone: AbortSignal): Promise<Answer> {
  if (typeof name !== 'string' || !Object.hasOwn(commands, name)) {
    throw new CodedError(
      'EINVAL',
      `command: expected one of ${Object.keys(commands).join(', ')}, got ${describeValue(name)}`,
    );
  }
  const command = commands[name]!;
  for (const field of Object.keys(fields)) {
    if (command.fields.includes(field)) continue;
    const known = command.fields.length === 0 ? 'no fields' : `only ${command.fields.join(', ')}`;
    throw new CodedError('EINVAL', `${name}: it has ${known}, got ${describeValue(field)}`);
  }
  return await command.run(state, fields, gone);
}

function running(state: ControlState): TraceWriter {
  if (state.trace !== undefined) return state.trace;
  throw new CodedError('EINVAL', 'trace: nothing is being recorded: trace-start comes first');
}

function power(disk: ServedDisk): Answer {
  const { scheduledCut } = disk;
  return {
    power: disk.power,
    scheduledCut: scheduledCut === undefined ? null : { ...scheduledCut.schedule, remaining: scheduledCut.remaining },
  };
}

function status(disk: ServedDisk, trace: TraceWriter | undefined, context: ControlContext): Answer {
  return {
    ...power(disk),
    profile: disk.profile?.name ?? 'none',
    sectorBytes: disk.sectorBytes,
    sectorCount: disk.sectorCount,
    readOnly: disk.readOnly,
    dirtySectors: disk.dirtySectorCount,
    cacheWriteOuts: disk.writeOuts,
    latencyMs: disk.latency.all,
    faults: disk.faults.all,
    faultsFired: { ...disk.faults.counts },
    operations: { ...disk.counts },
    server: context.serverStatistics(),
    trace: trace === undefined ? null : { path: trace.path, lines: trace.lines, failure: trace.failure ?? null },
  };
}

/** Answers when the power is as asked for: off (default), or on. */
function wait(disk: ServedDisk, timers: Timers, fields: Fields, gone: AbortSignal): Promise<Answer> | Answer {
  const { power: wanted = 'off', timeoutMs = WAIT_MAX_MS } = fields;
  if (wanted !== 'on' && wanted !== 'off')
    throw new RangeError(`power: expected on or off, got ${describeValue(wanted)}`);
  assertInteger(timeoutMs, 'timeoutMs', 0, WAIT_MAX_MS);
  const isThere = (now: PowerState): boolean => (now === 'on') === (wanted === 'on');
  if (isThere(disk.power)) return power(disk);
  return new Promise((resolve, reject) => {
    const end = (): void => {
      endWatch();
      cancel();
      gone.removeEventListener('abort', onGone);
    };
    const onGone = (): void => {
      end();
      reject(new CodedError('EIO', 'wait: nobody waits any more'));
    };
    const endWatch = disk.onPower((now) => {
      if (!isThere(now)) return;
      end();
      resolve(power(disk));
    });
    const cancel = timers.after(timeoutMs, () => {
      end();
      reject(new CodedError('EDEADLINE', `wait: the power is ${disk.power} after ${timeoutMs} ms`));
    });
    gone.addEventListener('abort', onGone);
  });
}
