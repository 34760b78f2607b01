import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { MemoryDevice } from '../../src/blockdev/index.ts';
import { VirtualClock } from '../../src/core/index.ts';
import { inspect, type OpenOptions, open, type StateFs, type StoreEvent } from '../../src/statefs/index.ts';
import { bytes, codeThrown, FailingDevice, formatted, ioError } from './helpers.ts';

type Type = StoreEvent['type'];

const page = readFileSync(new URL('../../docs/storage/events.md', import.meta.url), 'utf8');
const [, eventRows = '', statRows = ''] = page.split(/^## /m);

/** First cell, and the code spans of the second, of each row. */
function rowsOf(text: string): [string[], string][] {
  return [...text.matchAll(/^\| (`.*?) \| (.*?) \|/gm)].map(([, names = '', cell = '']) => [spans(names), cell]);
}

function spans(cell: string): string[] {
  return [...cell.matchAll(/`([\w-]+)`/g)].map(([, name]) => name as string);
}

/** Runs on a store, and gives what it told. */
function told(run: (store: StateFs, device: MemoryDevice) => void, options: OpenOptions = {}): StoreEvent[] {
  const events: StoreEvent[] = [];
  const device = formatted();
  run(open(device, { onEvent: (event) => events.push(event), ...options }), device);
  return events;
}

function toldOnOpen(damage: (device: MemoryDevice) => void): StoreEvent[] {
  const events: StoreEvent[] = [];
  const device = formatted();
  const store = open(device);
  store.putAtomic('/state/a', bytes(20));
  store.putAtomic('/state/a', bytes(30));
  store.close();
  damage(device);
  open(device, { onEvent: (event) => events.push(event) });
  return events;
}

function tempSectorOf(device: MemoryDevice): number {
  const { groups } = inspect(device);
  return groups.at(-1)?.frames.find(({ type }) => type === 'temp')?.sector as number;
}

const noise = bytes(512, 9);

/** How each event comes about. */
const CAUSES: Readonly<Record<Type, () => StoreEvent[]>> = {
  replayed: () => toldOnOpen(() => {}),
  damage: () => toldOnOpen((device) => device.write(tempSectorOf(device), noise)),
  superblock: () => toldOnOpen((device) => device.write(0, noise)),
  compaction: () => told((store) => store.compact()),
  scrub: () => told((store) => void store.scrub()),
  'scrub-damage': () =>
    told((store, device) => {
      store.putAtomic('/state/a', bytes(20));
      device.write(tempSectorOf(device), noise);
      store.scrub();
    }),
  'scrub-mended': () =>
    told((store, device) => {
      store.putAtomic('/state/a', bytes(20));
      device.write(inspect(device).superblocks.find(({ inUse }) => !inUse)?.copy === 0 ? 0 : 8, noise);
      store.scrub();
    }),
  quota: () =>
    told((store) => store.putAtomic('/state/a', bytes(20)), {
      quotas: [{ prefix: '/state/', soft: { bytes: 10 } }],
    }),
  slow: () => {
    let nowMs = 0;
    const clock = new VirtualClock();
    const late = { wallMs: () => clock.wallMs(), monotonicMs: () => (nowMs += 1000) };
    return told((store) => store.putAtomic('/state/a', bytes(20)), { clock: late });
  },
  latched: () => {
    const events: StoreEvent[] = [];
    const device = new FailingDevice(formatted());
    const store = open(device, { onEvent: (event) => events.push(event) });
    store.putAtomic('/state/a', bytes(3));
    device.before = (kind) => (kind === 'flush' ? ioError() : undefined);
    codeThrown(() => store.putAtomic('/state/a', bytes(4)));
    return events;
  },
};

describe('docs/storage/events.md', () => {
  const rows = rowsOf(eventRows);

  test('tells every event, and no other', () => {
    expect(rows.flatMap(([names]) => names).sort()).toEqual(Object.keys(CAUSES).sort());
  });

  test.each(Object.keys(CAUSES) as Type[])('%s: it happens, with the fields that are told', (type) => {
    const events = CAUSES[type]().filter((event) => event.type === type);
    expect(events.length).toBeGreaterThan(0);
    const cell = rows.find(([names]) => names.includes(type))?.[1] as string;
    const [own] = cell.split(/[;:,] *(?:`error` where|`sector`|`part`|as above)/);
    for (const event of events) {
      const { type: _, ...fields } = event;
      expect(spans(own as string).sort()).toEqual(Object.keys(fields).sort());
    }
    const nested = { damage: 'damage', 'scrub-damage': 'finding' }[type as string];
    if (nested === undefined) return;
    const inner = (events[0] as unknown as Record<string, object>)[nested] as object;
    expect(spans(cell).slice(1).sort()).toEqual(Object.keys(inner).sort());
  });

  test('an abandoned compaction tells why', () => {
    const events: StoreEvent[] = [];
    const device = new FailingDevice(formatted());
    const store = open(device, { compaction: 'manual', onEvent: (event) => events.push(event) });
    store.putAtomic('/state/a', bytes(3));
    device.before = (kind) => (kind === 'read' ? ioError() : undefined);
    expect(codeThrown(() => store.compact())).toBe('EIO');
    expect(events.at(-1)).toMatchObject({ type: 'compaction', phase: 'abandoned', error: { code: 'EIO' } });
  });

  test('tells every figure, and no other', () => {
    const names = rowsOf(statRows).flatMap(([own]) => own);
    expect(names.sort()).toEqual(Object.keys(open(formatted()).stats()).sort());
  });
});
