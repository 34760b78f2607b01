import { expect, test } from 'vitest';
import { VirtualClock } from '../../src/core/index.ts';
import { inspect, open, type StoreEvent } from '../../src/statefs/index.ts';
import { Audit, auditStore } from '../../src/statefsd/index.ts';
import { bytes, codeThrown, FailingDevice, formatted, ioError } from '../statefs/helpers.ts';

const clock = new VirtualClock(1_700_000_000_000);

/** What is recorded of a store that has an audit: event, operation, path, code. */
function recorded(run: (device: FailingDevice, onEvent: (event: StoreEvent) => void) => void): string[] {
  const audit = new Audit({ clock });
  run(new FailingDevice(formatted()), (event) => auditStore(audit, event));
  return audit.recent().map(({ event, operation, path, code }) => [event, operation, path, code].join(' '));
}

test('damage, by key; what a scrub found and what it mended', () => {
  const noise = bytes(512, 9);
  expect(
    recorded((device, onEvent) => {
      const store = open(device, { onEvent });
      store.putAtomic('/state/a', bytes(20));
      const { groups, superblocks } = inspect(device);
      device.write(groups[0]?.frames[0]?.sector as number, noise);
      codeThrown(() => store.get('/state/a'));
      device.write(superblocks.find(({ inUse }) => !inUse)?.copy === 0 ? 0 : 8, noise);
      store.scrub();
    }),
  ).toEqual([
    'store damage /state/a EINTEGRITY',
    'store scrub-damage  EINTEGRITY',
    'store scrub-mended  OK',
    // The value, which is lost, and the frame, away from which everything is moved.
    'store scrub-damage /state/a EINTEGRITY',
    'store scrub-damage /state/a EINTEGRITY',
    'store damage /state/a EINTEGRITY',
    'store scrub-mended /state/a OK',
  ]);
});

test('a lost superblock copy, a quota, a latch, compaction that is given up; nothing of what goes well', () => {
  expect(
    recorded((device, onEvent) => {
      device.write(0, bytes(512, 9));
      const quotas = [{ prefix: '/state/q/', soft: { keys: 1 } }];
      const store = open(device, { onEvent, quotas });
      store.putAtomic('/state/q/1', bytes(3));
      store.putAtomic('/state/q/2', bytes(3));
      store.compact();
      device.before = (kind) => (kind === 'read' ? ioError() : undefined);
      codeThrown(() => store.compact());
      device.before = (kind) => (kind === 'flush' ? ioError() : undefined);
      codeThrown(() => store.putAtomic('/state/q/1', bytes(4)));
    }),
  ).toEqual([
    'store superblock  EINTEGRITY',
    'store quota /state/q/ OK',
    'store compaction  EIO',
    'store latched  EIO',
  ]);
});
