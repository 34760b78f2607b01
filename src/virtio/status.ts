/** Bits of the device status field (virtio 2.1). */
export const STATUS_ACKNOWLEDGE = 1;
export const STATUS_DRIVER = 2;
export const STATUS_DRIVER_OK = 4;
export const STATUS_FEATURES_OK = 8;
export const STATUS_NEEDS_RESET = 64;
export const STATUS_FAILED = 128;

/** The order in which a driver sets its bits (virtio 3.1.1). */
export const STATUS_STEPS: readonly number[] = [
  STATUS_ACKNOWLEDGE,
  STATUS_DRIVER,
  STATUS_FEATURES_OK,
  STATUS_DRIVER_OK,
];
