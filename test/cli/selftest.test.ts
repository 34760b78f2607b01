import { describe, expect, test } from 'vitest';
import { runSelfTestCommand } from '../../src/cli/selftest-command.ts';
import { VirtualClock } from '../../src/core/index.ts';
import type { SelfTestOptions } from '../../src/testing/index.ts';
import { run } from './helpers.ts';

const MARKERS = [
  'statefsd: write hardening on (atomic+integrity)',
  'SELFTEST: statefs atomic ok',
  'SELFTEST: statefs integrity deny ok',
  'SELFTEST: statefs oversize deny ok',
  'updated: bootctl persisted (atomic)',
  'keystored: device key persisted (atomic)',
];

/** Runs the command on a machine with something wrong. */
async function runOn(options: Pick<SelfTestOptions, 'variant' | 'only'>, json: boolean) {
  let [out, err] = ['', ''];
  const code = await runSelfTestCommand(
    { json },
    {
      out: (text) => {
        out += text;
      },
      err: (text) => {
        err += text;
      },
      isTerminal: false,
      useColour: false,
      clock: new VirtualClock(),
    },
    options,
  );
  return { code, out, err };
}

describe('powercut selftest', () => {
  test('prints the six markers, a line each and nothing else, and exits with 0', async () => {
    expect(await run('selftest')).toEqual({ code: 0, out: `${MARKERS.join('\n')}\n`, err: '' });
  });

  const broken = { variant: { payloadBytes: 1024 * 1024 }, only: ['integrity', 'oversize'] };

  test('leaves out the marker of what was not seen, says what was, and exits with 1', async () => {
    const { code, out, err } = await runOn(broken, false);
    expect(code).toBe(1);
    expect(out).toBe('SELFTEST: statefs integrity deny ok\n');
    expect(err).toBe('NOT SEEN oversize: a payload over the budget: expected E2BIG, got OK\n');
    for (const marker of MARKERS) expect(err).not.toContain(marker);
  });

  test('--json has them all, with what was seen, in one object', async () => {
    const { code, out } = await runOn(broken, true);
    expect(code).toBe(1);
    expect(JSON.parse(out)).toEqual({
      ok: false,
      markers: [
        { marker: MARKERS[2], ok: true, observed: expect.stringContaining('damaged') },
        { marker: MARKERS[3], ok: false, observed: 'a payload over the budget: expected E2BIG, got OK' },
      ],
    });
  });

  test('takes no argument', async () => {
    expect((await run('selftest', 'now')).code).toBe(2);
  });
});
