import { describe, expect, test } from 'vitest';
import { encode, wrap } from '../../src/envelope/index.ts';
import { soundRules } from '../../src/statefs/index.ts';
import {
  baselinePolicy,
  type Connector,
  decodeRequest,
  encodeRequest,
  isFault,
  type StatePort,
} from '../../src/statefsd/index.ts';
import { TwoKeysPort } from '../../src/testing/scenarios/service-ports.ts';
import { atEveryCut, describeTally } from '../../src/testing/selftest/every-cut.ts';
import { Machine, type SelfTestVariant } from '../../src/testing/selftest/machine.ts';
import { runSelfTest } from '../../src/testing/selftest/selftest.ts';

const MARKERS = {
  hardening: 'statefsd: write hardening on (atomic+integrity)',
  atomic: 'SELFTEST: statefs atomic ok',
  integrity: 'SELFTEST: statefs integrity deny ok',
  oversize: 'SELFTEST: statefs oversize deny ok',
  updated: 'updated: bootctl persisted (atomic)',
  keystored: 'keystored: device key persisted (atomic)',
};
type Name = keyof typeof MARKERS;

test('on a sound machine every marker is shown, with what was seen', async () => {
  const begun: string[] = [];
  const report = await runSelfTest({ onBegin: ({ name }) => begun.push(name) });
  expect(begun).toEqual(Object.keys(MARKERS));
  expect(report.ok).toBe(true);
  expect(report.markers.map(({ marker, ok }) => [marker, ok])).toEqual(
    Object.values(MARKERS).map((text) => [text, true]),
  );
  const shown = report.markers.map(({ observed }) => observed.replace(/\d+/g, 'N'));
  expect(shown).toEqual([
    'a damaged put was refused and left the old value; N power cuts: N old, N new, nothing else',
    'N power cuts: N old, N new, nothing else',
    'a damaged put was refused and left the old value; N damaged sectors were each noticed, and the value beside them was read',
    'N bytes were taken, one more refused without a write',
    'N power cuts: N slot a, N slot b, nothing else',
    'N power cuts: N old key, N new key, nothing else',
  ]);
  for (const { observed } of report.markers) {
    const [, cuts, first, second] = /(\d+) power cuts: (\d+) [^,]*, (\d+) /.exec(observed) ?? [];
    if (cuts === undefined) continue;
    // A self-test gone lazy would see less.
    expect(Number(cuts)).toBeGreaterThanOrEqual(50);
    expect(Number(first) + Number(second)).toBe(Number(cuts));
    expect(Math.min(Number(first), Number(second))).toBeGreaterThanOrEqual(10);
  }
});

/** A store of two keys for each of `service`'s values. */
const carelessly = (service: string) => (client: StatePort, subject: string) =>
  subject === service ? new TwoKeysPort(client) : client;

/** One that reports done what it never sent. */
const pretending = (service: string) => (client: StatePort, subject: string) => {
  if (subject !== service) return client;
  const values = new Map<string, Uint8Array>();
  return {
    get: async (path: string) => values.get(path) ?? (await client.get(path)),
    putAtomic: async (path: string, payload: Uint8Array) => void values.set(path, payload.slice()),
  };
};

const all: Name[] = ['hardening', 'atomic', 'integrity', 'oversize', 'updated', 'keystored'];

describe('with something broken its marker is absent, and the others are not', () => {
  const everyone = { ...baselinePolicy(['selftest']), rules: [] };
  const operations = ['put_atomic', 'put', 'get', 'delete', 'list'] as const;
  const cases: [string, SelfTestVariant, Name[]][] = [
    [
      'a store that reports success before its flush',
      { rules: { ...soundRules, barriers: { ...soundRules.barriers, commit: false } } },
      // Integrity too: a store that does not know what was durable takes damage for a torn end.
      ['hardening', 'atomic', 'integrity', 'updated', 'keystored'],
    ],
    [
      'a store that verifies nothing',
      { rules: { ...soundRules, checksums: false } },
      ['hardening', 'atomic', 'integrity'],
    ],
    ['a server that takes any envelope', { between: remaking }, ['hardening', 'integrity']],
    ['a server that takes any size', { payloadBytes: 1024 * 1024 }, ['oversize']],
    ['a server that takes less than it says', { payloadBytes: 6000 }, ['oversize']],
    ['updated that stores a record in two keys', { port: carelessly('updated') }, ['updated']],
    ['keystored that stores a key in two', { port: carelessly('keystored') }, ['keystored']],
    ['updated that stores nothing', { port: pretending('updated') }, ['updated']],
    ['keystored that stores nothing', { port: pretending('keystored') }, ['keystored']],
    [
      'a policy that lets everyone in',
      { policy: { ...everyone, rules: [{ subject: '*', operations, path: '/state/', effect: 'allow' }] } },
      ['updated', 'keystored'],
    ],
    ['a policy that lets nobody in', { policy: everyone }, all],
  ];

  test.each(cases)('%s', async (_name, variant, missing) => {
    // The others are looked at where that is cheap.
    const only = all.filter((name) => missing.includes(name) || name === 'oversize' || name === 'integrity');
    const report = await runSelfTest({ variant, only });
    const seen = report.markers.map(({ marker, ok }) => [marker, ok]);
    expect(seen).toEqual(only.map((name) => [MARKERS[name], !missing.includes(name)]));
    expect(report.ok).toBe(false);
    for (const { ok, observed } of report.markers) {
      if (ok) continue;
      expect(observed).not.toBe('');
      // A search for a marker finds none in what is said of its absence.
      for (const marker of Object.values(MARKERS)) expect(observed).not.toContain(marker);
    }
  });

  test('every marker goes missing in some case by something of its own', () => {
    for (const name of all)
      expect(cases.some(([, , missing]) => missing.includes(name) && missing.length < 6)).toBe(true);
  });
});

/** Puts an envelope around whatever arrives: as if nobody had held the payload to the one that was sent. */
function remaking(connector: Connector): Connector {
  return (handlers) =>
    connector({
      ...handlers,
      opened: (channel) =>
        handlers.opened({
          write: (frame) => channel.write(remade(frame)),
          close: () => channel.close(),
        }),
    });
}

function remade(frame: Uint8Array): Uint8Array {
  const request = decodeRequest(frame);
  if (isFault(request) || request.operation !== 'put_atomic') return frame;
  const { payload } = request.fields;
  const envelope = encode(wrap(payload, { subject: '', purpose: '', ts: 0 }));
  return encodeRequest('put_atomic', request.nonce, { ...request.fields, envelope });
}

test('nothing looked at is not ok', async () => {
  expect(await runSelfTest({ only: [] })).toEqual({ ok: false, markers: [] });
});

describe('what shows nothing is not taken for something shown', () => {
  const tally = { cuts: 5, found: new Map([['old', 5]]) };

  test('cuts that all leave the same', () => {
    expect(describeTally(tally, ['old'])).toBe('5 power cuts: 5 old, nothing else');
    expect(() => describeTally(tally, ['old', 'new'])).toThrow('5 power cuts, and none of them left new');
  });

  test('an action that reaches no disk, and one that fails without a cut', async () => {
    const machine = Machine.factory({});
    const judge = async () => 'old';
    await expect(atEveryCut(machine, async () => {}, judge)).rejects.toThrow('it came to no write');
    const denied = (running: Machine) => running.client().putAtomic('/state/boot/x', new Uint8Array(1));
    await expect(atEveryCut(machine, denied, judge)).rejects.toThrow(/may not put_atomic/);
  });

  test('a defect of the test itself is not taken for a failed request', async () => {
    const defect = async () => {
      throw new Error('a defect');
    };
    await expect(atEveryCut(Machine.factory({}), defect, async () => 'old')).rejects.toThrow('a defect');
  });
});
