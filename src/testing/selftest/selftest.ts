import { messageOf } from '../../core/index.ts';
import { BEHAVIOURS, type Behaviour } from './behaviours.ts';
import type { SelfTestVariant } from './machine.ts';

/** Whether one behaviour was seen. */
export interface SelfTestResult {
  readonly marker: string;
  readonly ok: boolean;
  /** What was seen; where it is not ok, what was seen instead. */
  readonly observed: string;
}

export interface SelfTestReport {
  readonly ok: boolean;
  readonly markers: readonly SelfTestResult[];
}

export interface SelfTestOptions {
  /** Called before each behaviour is looked at. */
  readonly onBegin?: (behaviour: Pick<Behaviour, 'name' | 'marker'>) => void;
  /** Called after each, with what was seen. */
  readonly onResult?: (result: SelfTestResult, behaviour: Pick<Behaviour, 'name' | 'marker'>) => void;
  /** For tests of the tests: a machine with something wrong. */
  readonly variant?: SelfTestVariant;
  /** For tests of the tests: names of behaviours; the report then is of these only. Default: all. */
  readonly only?: readonly string[];
}

/**
 * Boots the whole stack in this process, server and clients on the store on a virtio disk that loses power, and looks
 * whether it keeps its promises. Everything is looked at, also after something failed; nothing looked at is not ok.
 */
export async function runSelfTest(options: SelfTestOptions = {}): Promise<SelfTestReport> {
  const markers: SelfTestResult[] = [];
  const { only } = options;
  for (const behaviour of BEHAVIOURS) {
    if (only !== undefined && !only.includes(behaviour.name)) continue;
    options.onBegin?.(behaviour);
    const result = await resultOf(behaviour, options.variant ?? {});
    markers.push(result);
    options.onResult?.(result, behaviour);
  }
  return { ok: markers.length > 0 && markers.every(({ ok }) => ok), markers };
}

async function resultOf({ marker, observe }: Behaviour, variant: SelfTestVariant): Promise<SelfTestResult> {
  try {
    return { marker, ok: true, observed: await observe(variant) };
  } catch (error) {
    return { marker, ok: false, observed: messageOf(error) };
  }
}
