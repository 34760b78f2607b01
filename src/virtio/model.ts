import type { VirtQueue } from './device-queue.ts';
import type { FeatureWords } from './features.ts';

/**
 * What makes a virtio device that device, behind any transport and any queue format. A model trusts neither the
 * driver nor what is in its memory. What it throws is no guest's doing: the transport halts and keeps the error.
 */
export interface DeviceModel {
  /** Subsystem device id (virtio 5). */
  readonly deviceId: number;
  /** For each queue, the most entries that it may have. */
  readonly queueSizesMax: readonly number[];
  /** How many of them there are for what was negotiated (MQ); all of them before that. */
  readonly queueCount: number;
  /** What the device offers, but for what is the transport's; constant from one reset to the next. */
  readonly offered: FeatureWords;
  /** Whether the device works with this subset of what it offers (2.2.2). */
  accepts(features: FeatureWords): boolean;
  /** The negotiated features, once FEATURES_OK is set. */
  negotiated(features: FeatureWords): void;
  /** Back to the state of a fresh device. */
  reset(): void;
  /** A field of the configuration space: 1, 2 or 4 bytes, aligned. 0 where there is none. */
  readConfig(offset: number, widthBytes: number): number;
  /** Writes to fields that the driver may not write are ignored. Called from FEATURES_OK on. */
  writeConfig(offset: number, widthBytes: number, value: number): void;
  /**
   * Serves what is available in a queue, at most as many requests as it has entries.
   * @returns how many were taken: as many as the queue has entries, and there may be more, of which a driver that runs
   *   beside the device does not tell any more
   */
  process(queueIndex: number, queue: VirtQueue): number;
  /** Hands the model what to call when its configuration space changed by itself. */
  connect(onConfigChange: () => void): void;
}

/**
 * A device's registers and its interrupt line: with guest memory, all that a driver sees of a device.
 */
export interface RegisterBus {
  /** Reads `widthBytes` at `offset` of the device's window. What makes no sense reads 0. */
  read(offset: number, widthBytes: number): number;
  /** What makes no sense is ignored. */
  write(offset: number, widthBytes: number, value: number): void;
  /** Level of the interrupt line. */
  readonly interruptAsserted: boolean;
  /**
   * Set once the machine under the device stopped: its power was cut, or the code that plays its backend threw what is
   * no disk error. The device is silent then. Hardware has no such wire; a simulation needs one, so that `error` comes
   * out at the top as the very object that went in.
   */
  readonly halted: { readonly error: unknown } | undefined;
}
