import type { BlockDevice } from '../blockdev/index.ts';
import { FrameCodec } from './frame.ts';
import type { StoreGeometry } from './geometry.ts';
import type { Group } from './group-reader.ts';
import { KeySpace } from './key-space.ts';
import { LiveSpace } from './live-space.ts';
import { type LogReader, logReaderOf } from './log-reader.ts';
import { PayloadStore } from './payload.ts';
import type { Row } from './recovery-table.ts';
import { type Recovered, replay } from './replay.ts';
import type { StoreRules } from './rules.ts';
import {
  geometryOf,
  judgeSuperblocks,
  readSuperblocks,
  type Superblock,
  type SuperblockCopy,
  type SuperblockVerdict,
} from './superblock.ts';

/** A store as recovery finds it, with the tools to look further. */
export interface Survey {
  readonly device: BlockDevice;
  readonly copies: readonly [SuperblockCopy, SuperblockCopy];
  readonly verdict: SuperblockVerdict;
  readonly geometry: StoreGeometry;
  readonly codec: FrameCodec;
  readonly payloads: PayloadStore;
  readonly keys: KeySpace;
  readonly reader: LogReader;
  readonly recovered: Recovered;
}

/**
 * Recovers what is on `device` by the very code that opens a store, and writes nothing.
 * @param onGroup told of each group in the order of the log, the torn end too, and of the superblock in use
 * @throws StateFsError as `open`
 */
export function survey(
  device: BlockDevice,
  rules: StoreRules,
  onGroup: (group: Group, row: Row, current: Superblock) => void,
): Survey {
  const copies = readSuperblocks(device, rules.checksums);
  const verdict = judgeSuperblocks(copies, rules);
  const geometry = geometryOf(device, verdict);
  const { storeId } = verdict.current;
  const codec = new FrameCodec(storeId, device.sectorBytes, rules.checksums);
  const payloads = new PayloadStore(device, codec, geometry);
  const keys = new KeySpace(new LiveSpace(codec, geometry, payloads));
  const reader = logReaderOf(device, geometry, verdict, rules);
  const tell = (group: Group, row: Row): void => onGroup(group, row, verdict.current);
  const recovered = replay({ device, reader, codec, geometry, payloads, keys, verdict, rules, onGroup: tell });
  return { device, copies, verdict, geometry, codec, payloads, keys, reader, recovered };
}
