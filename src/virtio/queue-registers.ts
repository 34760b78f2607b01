import { joinWords } from './memory.ts';
import {
  REG_QUEUE_DESC_HIGH,
  REG_QUEUE_DESC_LOW,
  REG_QUEUE_DEVICE_HIGH,
  REG_QUEUE_DEVICE_LOW,
  REG_QUEUE_DRIVER_HIGH,
  REG_QUEUE_DRIVER_LOW,
  REG_QUEUE_NUM,
} from './mmio-layout.ts';
import type { QueueAddresses } from './split-layout.ts';

/** The registers of one queue as the driver wrote them, unchecked (virtio 4.2.2): the queue checks when enabled. */
export class QueueRegisters implements QueueAddresses {
  #size = 0;
  #descLow = 0;
  #descHigh = 0;
  #driverLow = 0;
  #driverHigh = 0;
  #deviceLow = 0;
  #deviceHigh = 0;

  get size(): number {
    return this.#size;
  }

  get desc(): number {
    return joinWords(this.#descHigh, this.#descLow);
  }

  get driver(): number {
    return joinWords(this.#driverHigh, this.#driverLow);
  }

  get device(): number {
    return joinWords(this.#deviceHigh, this.#deviceLow);
  }

  reset(): void {
    this.#size = 0;
    this.#descLow = this.#descHigh = 0;
    this.#driverLow = this.#driverHigh = 0;
    this.#deviceLow = this.#deviceHigh = 0;
  }

  /** @param value an unsigned 32-bit word */
  write(register: number, value: number): void {
    switch (register) {
      case REG_QUEUE_NUM:
        this.#size = value;
        break;
      case REG_QUEUE_DESC_LOW:
        this.#descLow = value;
        break;
      case REG_QUEUE_DESC_HIGH:
        this.#descHigh = value;
        break;
      case REG_QUEUE_DRIVER_LOW:
        this.#driverLow = value;
        break;
      case REG_QUEUE_DRIVER_HIGH:
        this.#driverHigh = value;
        break;
      case REG_QUEUE_DEVICE_LOW:
        this.#deviceLow = value;
        break;
      case REG_QUEUE_DEVICE_HIGH:
        this.#deviceHigh = value;
        break;
    }
  }
}
