/** Types of soak-model.mjs, for its test. */
export declare const ABSENT: number;
export declare function makeValue(client: number, key: number, version: number, sizeBytes: number): Uint8Array;
export declare function versionOf(client: number, key: number, value: Uint8Array): number | undefined;
export declare class KeyModel {
  acked: number;
  maybe: Set<number>;
  settle(version: number): void;
  doubt(version: number): void;
  allows(version: number): boolean;
  faultOf(version: number | undefined): 'torn' | 'lost' | 'older' | 'came back' | undefined;
  static from(json: { readonly acked: number; readonly maybe: readonly number[] }): KeyModel;
}
