import mysql from 'mysql2/promise';

export async function exchange({ port }) {
  const connection = await mysql.createConnection({
    host: 'localhost',
    port,
    user: 'test',
    ssl: {},
  });
  try {
    const [rows] = await connection.query(
      'SELECT REPEAT(CHAR(65 + seq % 26), 1000) AS text FROM test.seq_1_to_60',
    );
    return Buffer.from(rows.map(({ text }) => text).join(''));
  } finally {
    await connection.end().catch(() => {});
  }
}
