/** What tables are drawn with. */
import type { Terminal } from './terminal.ts';

/** Characters for terminals that have no others. */
const ASCII_BORDERS = {
  top: '-',
  'top-mid': '+',
  'top-left': '+',
  'top-right': '+',
  bottom: '-',
  'bottom-mid': '+',
  'bottom-left': '+',
  'bottom-right': '+',
  left: '|',
  'left-mid': '+',
  mid: '-',
  'mid-mid': '+',
  right: '|',
  'right-mid': '+',
  middle: '|',
};

/** The characters of a table's lines that differ from cli-table3's own. */
export function borders({ charset }: Pick<Terminal, 'charset'>): Partial<typeof ASCII_BORDERS> {
  return charset === 'ascii' ? ASCII_BORDERS : {};
}
