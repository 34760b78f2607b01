import type { Scenario } from '../../src/explore/index.ts';

export const sectorOf = (fill: number) => new Uint8Array(512).fill(fill);

/** Two copies of one value; `checks`: a recovery compares them and says so where they differ. */
export function twins(checks: boolean): Scenario<number, number | 'damaged'> {
  return {
    name: 'twins',
    disk: { sectorCount: 8 },
    format(device) {
      for (const sector of [2, 5]) device.write(sector, sectorOf(1));
    },
    workload(device, run) {
      run.begin(2);
      try {
        for (const sector of [2, 5]) {
          device.write(sector, sectorOf(2));
          device.flush();
        }
        run.acknowledge(2);
      } catch {
        // In doubt: it stays in flight.
      }
    },
    recover(device) {
      const [a, b] = [sectorOf(0), sectorOf(0)];
      try {
        device.read(2, a);
        device.read(5, b);
      } catch {
        return 'damaged';
      }
      const isWhole = a.every((byte) => byte === a[0]) && Buffer.compare(a, b) === 0;
      return checks && !isWhole ? 'damaged' : a.reduce((sum, byte) => (byte === a[0] ? sum : byte), a[0]!);
    },
    invariant(found, history) {
      const kinds = history.events.map(({ kind }) => kind);
      const cutShort = !kinds.includes('acknowledge');
      if (found === 'damaged') {
        if (!kinds.includes('fault') && !cutShort) throw new Error('damaged without a fault');
        return;
      }
      if (found !== 2 && !(found === 1 && cutShort)) throw new Error(`got ${found}`);
    },
  };
}
