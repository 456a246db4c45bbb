import mysql from 'mysql2/promise';

const options = (to) => ({ host: 'localhost', port: to.port, user: 'test', ssl: {} });
const QUERY = 'SELECT REPEAT(CHAR(65 + seq % 26), 1000) AS text FROM test.seq_1_to_60';

async function use(connection, query) {
  try {
    return await query(connection);
  } finally {
    await connection.end().catch(() => {});
  }
}
const read = async (connection) => {
  const [rows] = await connection.query(QUERY);
  return Buffer.from(rows.map(({ text }) => text).join(''));
};

export const again = {
  "a connection's query": async (to) => use(await mysql.createConnection(options(to)), read),
  "a pool's query": (to) => use(mysql.createPool(options(to)), read),
};

/** The server counts its SELECTs. */
export const seen = async (to) =>
  use(await mysql.createConnection(options(to)), async (connection) => {
    const [[{ Value }]] = await connection.query("SHOW GLOBAL STATUS LIKE 'Com_select'");
    return Number(Value);
  });
