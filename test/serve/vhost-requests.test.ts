import { describe, expect, test } from 'vitest';
import { pattern } from './harness.ts';
import { noVhost, serveVhost } from './vhost-harness.ts';

const because = noVhost === undefined ? '' : ` (${noVhost})`;

const RINGS = [true, false].flatMap((packed) =>
  [1, 2].flatMap((queueCount) =>
    [true, false].flatMap((indirect) =>
      [true, false].map((eventIdx) => ({
        name: `${packed ? 'packed' : 'split'}, ${queueCount} queues, indirect ${indirect}, EVENT_IDX ${eventIdx}`,
        packed,
        queueCount,
        indirect,
        eventIdx,
      })),
    ),
  ),
);

// Skipped: where koffi or Linux is missing; the name says which.
describe.skipIf(noVhost !== undefined)(`our driver over vhost-user${because}`, () => {
  test.each(RINGS)('$name: what is written is read, from the disk too', async (ring) => {
    const serving = await serveVhost();
    const guest = await serving.connect(ring);
    expect(guest.driver.queueCount).toBe(ring.queueCount);
    // Some turns of the ring, several requests at once.
    for (let round = 0; round < 20; round++) {
      const tickets = [0, 1, 2, 3, 4].map((i) =>
        guest.driver.submitWrite(round * 40 + i * 8, pattern(4096, round + i)),
      );
      await guest.finishAll(tickets);
      for (const ticket of tickets) guest.driver.finish(ticket);
    }
    await guest.flush();
    for (let round = 0; round < 20; round += 7) {
      expect(await guest.read(round * 40 + 16, 8)).toEqual(pattern(4096, round + 2));
      const onDisk = new Uint8Array(4096);
      serving.disk.read(round * 40 + 16, onDisk);
      expect(onDisk).toEqual(pattern(4096, round + 2));
    }
    expect(serving.disk.dirtySectorCount).toBe(0);
    const { requests, kicks, calls, bytesWritten, queuesBroken } = serving.server.statistics;
    expect(requests).toBe(100 + 1 + 3);
    expect(bytesWritten).toBe(100 * 4096);
    expect(queuesBroken).toBe(0);
    expect(kicks).toBeGreaterThan(0);
    expect(calls).toBeGreaterThan(0);
  });
});
