import pg from 'pg';

export async function exchange({ port }) {
  const client = new pg.Client({
    host: 'localhost',
    port,
    user: 'test',
    database: 'postgres',
    ssl: true,
  });
  // Tells of a connection that is lost between queries; a query's own error rejects the query.
  client.on('error', () => {});
  try {
    await client.connect();
    const { rows } = await client.query(
      'SELECT repeat(chr(65 + n % 26), 1000) AS text FROM generate_series(1, 60) AS n',
    );
    return Buffer.from(rows.map(({ text }) => text).join(''));
  } finally {
    await client.end().catch(() => {});
  }
}
