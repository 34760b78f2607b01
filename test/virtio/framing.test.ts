import { describe, expect, it } from 'vitest';
import { BLK_S_OK, BLK_T_FLUSH, BLK_T_IN, BLK_T_OUT } from '../../src/virtio/index.ts';
import { cut, rooms } from './cuts.ts';
import { RINGS } from './guest-queue.ts';
import { Guest, header, pattern, sectorOf } from './harness.ts';

const CUTS: readonly (readonly number[])[] = [
  [],
  [16],
  [4],
  [1, 1, 1, 1, 1],
  [15, 1],
  [17],
  [16, 511],
  [16, 513, 0, 3],
  [300],
];

describe.each(RINGS)('message framing, %s ring', (ring) => {
  it.each(CUTS)(
    'checklist 1, virtio 2.7.4.1, 2.8.17: a write may be cut anywhere (%j, %j, %j, %j, %j)',
    (...lengths) => {
      const guest = new Guest({ ring }).up();
      const data = pattern(1024, 3);
      const request = new Uint8Array([...header(BLK_T_OUT, 5), ...data]);
      const answer = guest.send([
        ...cut(
          request,
          lengths.filter((length) => length !== undefined),
        ),
        { room: 1 },
      ]);
      expect(answer.status).toBe(BLK_S_OK);
      expect(sectorOf(guest.backend, 5, 2)).toEqual(data);
    },
  );

  it.each([[[]], [[1024]], [[1]], [[511]], [[513]], [[1, 0, 600, 3]], [[512, 512]], [[1023]]])(
    'checklist 1, virtio 2.7.4.1, 2.8.17: a read may be cut anywhere, its status in any descriptor (%j)',
    (lengths) => {
      const guest = new Guest({ ring }).up();
      const data = pattern(1024, 4);
      guest.backend.write(7, data);
      const answer = guest.send([{ give: header(BLK_T_IN, 7) }, ...rooms(1025, lengths)]);
      expect(answer.written).toEqual(new Uint8Array([...data, BLK_S_OK]));
      expect(answer.usedLength).toBe(1025);
    },
  );

  it.each([
    ['a read', header(BLK_T_IN, 0), 513, 513],
    ['a failed read', header(BLK_T_IN, 64), 513, 0],
    ['a request without data', header(BLK_T_FLUSH), 1, 1],
    ['an unknown request', header(77), 513, 0],
  ])('checklist 14, virtio 2.7.8.2, 2.8.4: %s counts no byte that was not written', (_name, given, room, expected) => {
    const answer = new Guest({ ring }).up().send([{ give: given }, { room }]);
    expect(answer.usedLength).toBe(expected);
  });
});
