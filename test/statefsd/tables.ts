import {
  ERROR_FIELDS,
  HEADER_FIELDS,
  OPERATION_NAMES,
  OPERATIONS,
  type Operation,
  STATUSES,
  type WireField,
} from '../../src/statefsd/index.ts';

/** The tables of docs/statefsd.md, by their names, as the code has them. */
export function tables(): Record<string, string> {
  return {
    header: table(['offset', 'bytes', 'field', 'meaning'], headerRows()),
    operations: table(['code', 'operation', 'applies to', 'what it does'], operationRows()),
    requests: table(['operation', 'field', 'kind', 'cap', 'meaning'], fieldRows('request')),
    answers: table(['operation', 'field', 'kind', 'cap', 'meaning'], fieldRows('response')),
    errors: table(['status', 'code', 'when', 'what the caller does'], statusRows()),
  };
}

function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const line = (cells: readonly (string | number)[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), `|${head.map(() => '---').join('|')}|`, ...rows.map(line)].join('\n');
}

function headerRows(): (string | number)[][] {
  let offset = 0;
  return HEADER_FIELDS.map(([name, bytes, meaning]) => {
    const row = [offset, bytes, `\`${name}\``, meaning];
    offset += bytes;
    return row;
  });
}

function operationRows(): (string | number)[][] {
  const scopes = { key: 'a key', prefix: 'a prefix', store: 'the store' };
  return OPERATION_NAMES.map((name) => {
    const { code, scope, meaning }: Operation = OPERATIONS[name];
    return [code, `\`${name}\``, scopes[scope], meaning];
  });
}

function fieldRows(side: 'request' | 'response'): string[][] {
  const rows = OPERATION_NAMES.flatMap((name) => rowsOf(name, OPERATIONS[name][side]));
  return side === 'request' ? rows : [...rows, ...rowsOf('any status but OK', ERROR_FIELDS, false)];
}

function rowsOf(name: string, fields: readonly WireField[], isOperation = true): string[][] {
  const label = isOperation ? `\`${name}\`` : name;
  if (fields.length === 0) return [[label, '-', '-', '-', 'no fields']];
  return fields.map(([field, kind, cap, meaning], i) => {
    return [i === 0 ? label : '', `\`${field}\``, kind, cap === 0 ? '-' : cap.toLocaleString('en-US'), meaning];
  });
}

function statusRows(): (string | number)[][] {
  return Object.entries(STATUSES).map(([name, { code, when, action }]) => [`\`${name}\``, code, when, action]);
}
